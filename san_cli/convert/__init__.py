"""`san convert`: labels of any form that is read into any that is written, without a model."""
