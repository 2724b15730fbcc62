"""Data sets as folders of images and masks: finding, reading, augmenting and batching them."""
