"""How good is a detector on labelled images, and how sure may one be of that figure?

`localization` measures one heat map, `metrics` a table of measured images, `bootstrap` the doubt about each metric;
`predictors` are what is measured, `runner` measures a manifest, `summary` and `report` tell the outcome.
"""
