"""What a hyper-parameter search draws, one file per method: a function ``space()`` that returns a ``Space``.

The same rule for all, so that no method is searched more generously than another: learning rate and weight decay a
factor 10 to either side of the recipe, then the method's own settings over the values that its paper and the public
recipes use. ``tests/search_spaces`` holds every space against its method. Nothing imports this package.
"""
