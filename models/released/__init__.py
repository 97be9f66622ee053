"""What the authors released: a catalogue, and how a file of it is fetched whole."""
