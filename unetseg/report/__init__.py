"""What a person looks at of a run: curves and sheets of pictures, without torch."""
