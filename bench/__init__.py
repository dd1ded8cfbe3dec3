"""One command per figure; ratios within one run, medians of several, written as JSON."""
