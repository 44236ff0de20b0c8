"""`san fps`: how many parameters, multiply-adds and milliseconds the four systems of Table 3 take."""
