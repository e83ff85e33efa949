"""How a frozen encoder is scored. Pure numpy and scikit-learn, except ``features``, which runs the network.

``evaluate.evaluate`` turns features into the metrics listed in ``catalogue.METRICS``; nothing is imported here,
so that the catalogue loads without torch.
"""
