"""Statistics over trials: ``statistics`` works on arrays, ``tables`` on frames of trials, figures and sheets draw."""
