"""What of a stimulus drives a dimension, and stimuli in which a dimension was turned up or down."""
