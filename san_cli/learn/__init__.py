"""`san vocab learn`: rows for words from a few labelled pictures. Start with `row.py`: all of the method is there."""
