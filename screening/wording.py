"""How does one say it to a person? A verdict in one plain sentence, and what each reservation means."""

from screening.tables import Finding

REASONS = {
    "mask_verdict_conflict": "The mask marks an area although the verdict is authentic, or the reverse: one is wrong.",
    "localization_skipped": "No area was sought in this image; only the verdict was asked for.",
    "calibration_disagrees": "The score and its calibrated probability fall on different sides of one half.",
    "too_small": "The image is smaller than what the detector was trained on.",
    "uncertain_score": "The score lies where the detector is known to be unreliable.",
    "out_of_domain": "The image is unlike the ones the detector was trained on.",
    "provenance_conflict": "The image is signed as captured by a camera, and yet the detector finds it manipulated.",
    "first_frame_only": "The image is animated; only its first frame was looked at.",
    "alpha_composited": "Transparent parts were laid over white before looking.",
    "colour_converted": "Colours were converted before looking.",
}

GUARDS = {
    "kill_switch": "Blocking is suspended, so a person decides.",
    "mask_verdict_conflict": "Mask and verdict disagree, so a person decides.",
    "provenance_conflict": "Provenance and verdict disagree, so a person decides.",
    "inconclusive": "The detector abstains, so a person decides.",
    "sampled": "Picked at random to check how well the policy does.",
}


def sentence(finding: Finding) -> str:
    """The verdict, and what its number means, in one sentence."""
    if finding.label == "inconclusive":
        return "The detector abstains: this image is outside of what its verdicts are worth."
    said = "manipulated" if finding.label == "fake" else "not manipulated"
    if finding.probability is None:
        return f"Scored {finding.score:.2f} of 1, hence {said}; the score is not calibrated, so it is no probability."
    odds = round(100 * finding.probability)
    return f"Probably {said}: of 100 images that score like this one, about {odds} are manipulated."


def reason(code: str) -> str:
    """What a reservation means; an unknown code in readable form."""
    return REASONS.get(code, code.replace("_", " ").capitalize() + ".")
