"""DeFakerOne (arXiv 2605.14091): joint fake-image detection and pixel localization with InternVL2 and SAM2."""
