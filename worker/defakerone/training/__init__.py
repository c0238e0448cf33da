"""How does DeFakerOne learn? Forgeries, data, stages, calibration and the paper's analyses."""
