"""Bundles: what is needed to serve a file on a target, with golden values and a check that runs there.

`content.py` says what every target is made of; a target is one record (`targets.py`) and the module that writes its
files; `manifest.py` lists them by digest. What runs on the target lies under `files/`, as it is copied: it needs
nothing of bnfold.
"""
