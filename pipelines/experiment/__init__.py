"""Between the lake and the experiment: what is offered, what is published, and how it is served."""
