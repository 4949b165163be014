import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.training.schedules import SCHEDULES, cosine, make_schedule, plateau_scale


def test_cosine_with_warm_up():
    schedule = cosine(0.4, 100, 10, warmup_epochs=2.0, end_factor=0.1)
    for step, expected in ((0, 0.0), (10, 0.2), (20, 0.4), (60, 0.4 * 0.55), (100, 0.04)):
        np.testing.assert_allclose(schedule(step), expected, atol=1e-6)
    plain = cosine(0.4, 100, 10)
    np.testing.assert_allclose([plain(0), plain(50), plain(100)], [0.4, 0.2, 0.0], atol=1e-6)


def test_a_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match="warmup_epochs=10: expected at least 0 and less than the run's 10 epochs"):
        cosine(0.4, 100, 10, warmup_epochs=10.0)


REQUIRED = {"step": {"every": 3.0}}


def values(name, steps, total=50, per_epoch=5, **options):
    schedule = SCHEDULES[name](0.1, total, per_epoch, **options)
    return [float(schedule(step)) for step in steps]


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_every_schedule_reaches_its_highest_rate_and_never_more(name):
    rates = values(name, range(51), **REQUIRED.get(name, {}))
    np.testing.assert_allclose(max(rates), 0.1, rtol=1e-3)
    assert min(rates) >= 0


@pytest.mark.parametrize("name", sorted({*SCHEDULES} - {"one_cycle", "triangular"}))
def test_every_schedule_warms_up(name):
    rates = values(name, range(51), warmup_epochs=2.0, **REQUIRED.get(name, {}))
    np.testing.assert_allclose(rates[:10], 0.01 * np.arange(10), atol=1e-7)
    assert rates[10] == pytest.approx(0.1, rel=0.2)
    risen = values(name, range(11), warmup_epochs=2.0, warmup_factor=0.2, **REQUIRED.get(name, {}))
    np.testing.assert_allclose(risen[:10], 0.02 + 0.008 * np.arange(10), atol=1e-7)
    assert risen[10] == rates[10]


def test_triangular():
    """floor(0.23 * 50) = 11 steps from a fifth up to the rate, 39 steps down to 7 % of it."""
    expected = [0.02, 0.02 + 0.08 * 5 / 11, 0.1, 0.1 - 0.093 * 13 / 39, 0.007]
    np.testing.assert_allclose(values("triangular", (0, 5, 11, 24, 50)), expected, rtol=1e-5)


def test_step():
    expected = [0.1, 0.1, 0.01, 0.01, 0.001]
    np.testing.assert_allclose(values("step", (0, 9, 10, 19, 20), epochs=(2.0, 4.0)), expected, rtol=1e-5)
    np.testing.assert_allclose(values("step", (0, 9, 10, 19, 20), every=2.0), expected, rtol=1e-5)
    np.testing.assert_allclose(values("step", (9, 10), every=2.0, warmup_epochs=1.0), [0.1, 0.01], rtol=1e-5)
    for options in ({}, {"every": 1.0, "epochs": (1.0,)}):
        with pytest.raises(ValueError, match="schedule.epochs or schedule.every, one of the two"):
            SCHEDULES["step"](0.1, 50, 5, **options)


def test_exponential_polynomial():
    np.testing.assert_allclose(
        values("exponential", (0, 5, 10, 12), factor=0.5), [0.1, 0.05, 0.025, 0.1 * 0.5**2.4], rtol=1e-5
    )
    np.testing.assert_allclose(values("exponential", (4, 5), factor=0.5, staircase=True), [0.1, 0.05], rtol=1e-5)
    np.testing.assert_allclose(
        values("polynomial", (0, 25, 50), power=2.0, end_factor=0.2), [0.1, 0.02 + 0.08 / 4, 0.02], rtol=1e-5
    )


def test_exponential_is_counted_from_the_end_of_the_warm_up():
    """Two epochs of 5 steps up to 0.1, then halved each epoch: no jump, whatever the factor."""
    rates = values("exponential", range(21), factor=0.5, warmup_epochs=2.0)
    np.testing.assert_allclose(rates[:10], 0.01 * np.arange(10), atol=1e-7)
    np.testing.assert_allclose(rates[10:], 0.1 * 0.5 ** (np.arange(11) / 5), rtol=1e-5)
    stairs = values("exponential", (10, 14, 15, 19, 20), factor=0.5, warmup_epochs=2.0, staircase=True)
    np.testing.assert_allclose(stairs, [0.1, 0.1, 0.05, 0.05, 0.025], rtol=1e-5)


# (steps of the run, share of the rise): torch.optim.lr_scheduler.OneCycleLR(max_lr=0.1) of PyTorch 2.13, every step.
ONE_CYCLES = {
    (1, 0.3): [4e-07],
    (2, 0.3): [0.0811745653949763, 4e-07],
    (3, 0.3): [0.09944154354509119, 0.046263710266697504, 4e-07],
    (4, 0.3): [0.004, 0.0811745653949763, 0.028306099820869922, 4e-07],
    (5, 0.1): [0.09698464310077128, 0.0750001, 0.04131782584628902, 0.01169813105293973, 4e-07],
}


@pytest.mark.parametrize(("steps", "rise"), ONE_CYCLES)
def test_one_cycle_of_few_steps_is_pytorchs(steps, rise):
    rates = values("one_cycle", range(steps), steps, 5, rise=rise)
    np.testing.assert_allclose(rates, ONE_CYCLES[steps, rise], rtol=1e-4, atol=1e-8)


@pytest.mark.filterwarnings("ignore")  # PyTorch's own
@pytest.mark.parametrize("steps", [2, 3, 5, 13])
@pytest.mark.parametrize("rise", [0.0, 0.15, 0.6])
def test_one_cycle_is_what_pytorch_computes(steps, rise):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps, pct_start=rise)
    expected = [schedule.get_last_lr()[0]]
    for _ in range(steps - 1):
        optimizer.step()
        schedule.step()
        expected.append(schedule.get_last_lr()[0])
    np.testing.assert_allclose(values("one_cycle", range(steps), steps, 5, rise=rise), expected, rtol=1e-4, atol=1e-8)


def test_one_cycle_is_pytorchs():
    """torch.optim.lr_scheduler.OneCycleLR(max_lr=0.1, total_steps=50), PyTorch 2.13: steps 0, 7, 14, 30, 49."""
    rates = values("one_cycle", (0, 7, 14, 30, 49))
    np.testing.assert_allclose(rates, [0.004, 0.052, 0.1, 0.05671183644, 4e-7], rtol=1e-4)


def by_hand(errors, patience, threshold, falls):
    """PyTorch's ReduceLROnPlateau with threshold_mode="abs", a step at a time."""
    scale, best, bad, count = 1.0, np.inf, 0, 0
    for error in errors:
        if error < best - threshold:
            best, bad = error, 0
        else:
            bad += 1
        if bad > patience and (falls is None or count < falls):
            scale, bad, count = scale * 0.1, 0, count + 1
    return scale


@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.25, 0.3, 0.4]), max_size=25),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.06]),
    st.sampled_from([None, 1, 2]),
)
def test_plateau(errors, patience, threshold, falls):
    scale = plateau_scale(errors, 0.1, patience, threshold, falls)
    np.testing.assert_allclose(scale, by_hand(errors, patience, threshold, falls), rtol=1e-9)


def test_plateau_worked_out():
    errors = [0.5, 0.4, 0.4, 0.41, 0.39, 0.39, 0.39, 0.39, 0.38]
    scales = [plateau_scale(errors[:count], 0.1, patience=1) for count in range(1, len(errors) + 1)]
    np.testing.assert_allclose(scales, [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01], rtol=1e-9)


def test_a_schedule_of_optax_takes_the_rate_and_the_steps_by_its_own_names():
    made, expected = (
        make_schedule(optax.cosine_decay_schedule, 0.1, 100, 10, alpha=0.2),
        optax.cosine_decay_schedule(0.1, 100, 0.2),
    )
    np.testing.assert_allclose([made(n) for n in (0, 50, 100)], [expected(n) for n in (0, 50, 100)])
    with pytest.raises(
        ValueError, match="schedule.name: exponential_decay needs decay_rate: write a function of learning_rate"
    ):
        make_schedule(optax.exponential_decay, 0.1, 100, 10)
