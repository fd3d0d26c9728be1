"""S4.2, S4.10: how δ fades on its way down a deep network, by activation, depth and initial scale;
and how many units are off."""
