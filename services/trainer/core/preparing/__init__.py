"""From rows of fields to the matrix a network takes, with everything frozen in the training rows."""
