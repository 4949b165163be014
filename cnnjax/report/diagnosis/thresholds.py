"""The thresholds that several rules share. A threshold of one rule stands above that rule."""

# Fewer epochs show no shape of a curve.
CURVE_EPOCHS = 4
# Two accuracies differ if they are at least this many standard errors apart; by chance that happens about twice in 1,000
# comparisons.
STANDARD_ERRORS = 3.0
# Skill is accuracy rescaled from guessing (0) to perfection (1). Below the first nothing was learned; from the second on a network
# has fitted, as far as a curve can tell: what it lacks may be in the data.
NO_SKILL, FITTED = 0.05, 0.8
# Skill on training minus skill on validation: a gap so wide that it is a fault by itself.
WIDE_GAP = 0.2
# Prechelt's generalisation loss: validation loss over its minimum, minus one. He stops at 0.01 to 0.05; four times that is beyond
# a curve's own noise.
RISEN = 0.2
# A curve is still falling if training 25 % longer at its current rate would reduce the loss by at least this fraction.
STILL_FALLING = 0.1
# A loss this near to that of guessing, as a fraction of it, is that of guessing.
AT_GUESSING = 0.01
# A mean loss of an epoch from which the network was wrong with confidence rather than ignorant: twice that of guessing. The usual
# initialisations start below it (an output of variance 2 for each of 10 classes costs 1.3 times guessing).
CONFIDENTLY_WRONG = 2.0
# CS231n: an update is usually about 1e-3 of the weights. With a tenth of it at most in every layer the rate is low.
USUAL_UPDATE, SMALL_UPDATE = 1e-3, 1e-4
# Training must lower the loss from that of guessing to nearly nothing. If its steps, were each straight downhill, would add up to
# a quarter of that way at most, they are too small to arrive; if they add up to the whole way, they are not.
SHORT_OF_REACH, IN_REACH = 0.25, 1.0
# The share of a layer's units that never respond, or of its values on the flat ends of their activation function, from which the
# layer is at fault. (CS231n speaks of up to 40 % with a rate too high; networks that learn well have been seen with as many.)
DEAD = SATURATED = 0.5
# |g| |w| is what a layer's weights would change the loss by, to first order, if they moved by their own size along the gradient;
# here in units of the loss of guessing. An update is usually a thousandth of the weights: where |g| |w| is beyond a thousand, it
# may cost as much as guessing; where it is below a tenth, it gains less than a ten-thousandth of that.
EXPLODING, VANISHING = 1 / USUAL_UPDATE, 0.1
