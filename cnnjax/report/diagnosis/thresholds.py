"""The thresholds that several rules share. A threshold of one rule is defined above that rule."""

# The smallest number of epochs that show the shape of a curve.
CURVE_EPOCHS = 4
# Two accuracies differ if they are at least this many standard errors apart; by chance that happens about twice in 1,000
# comparisons.
STANDARD_ERRORS = 3.0
# Skill is accuracy rescaled from guessing (0) to perfection (1). Below the first value nothing was learned; from the second on the
# network counts as fitted, since the remaining errors may be in the data.
NO_SKILL, FITTED = 0.05, 0.8
# The difference between the skills on training and validation that is a fault by itself.
WIDE_GAP = 0.2
# Prechelt's generalisation loss: validation loss divided by its minimum, minus one. He stops at 0.01 to 0.05; four times the
# latter exceeds the noise of a curve.
RISEN = 0.2
# A curve is still falling if training 25 % longer at its current rate would reduce the loss by at least this fraction.
STILL_FALLING = 0.1
# A loss within this fraction of the loss of guessing counts as guessing.
AT_GUESSING = 0.01
# The mean loss of an epoch, relative to guessing, from which a network is confidently wrong instead of ignorant. The usual
# initialisations start below it (outputs with variance 2 for each of 10 classes cost 1.3 times guessing).
CONFIDENTLY_WRONG = 2.0
# CS231n: an update is usually about 1e-3 of the weights. If no layer exceeds a tenth of that, the rate is low.
USUAL_UPDATE, SMALL_UPDATE = 1e-3, 1e-4
# Training must lower the loss from that of guessing to nearly zero. If its steps along the gradient could cover at most a quarter
# of this distance, they are too small; if they could cover all of it, they are not.
SHORT_OF_REACH, IN_REACH = 0.25, 1.0
# The fraction of a layer's units that are dead, or of its values in saturation, from which the layer is at fault. (CS231n mentions
# up to 40 % with a rate that is too high; networks that learn well have been seen with as many.)
DEAD = SATURATED = 0.5
# |g| |w| is the first-order change of the loss if a layer's weights move by their own norm along the gradient,
# here in units of the loss of guessing. An update is usually a thousandth of the weights: if |g| |w| exceeds a thousand, an update
# may cost as much as guessing; if it is below a tenth, an update gains less than a ten-thousandth of that.
EXPLODING, VANISHING = 1 / USUAL_UPDATE, 0.1
