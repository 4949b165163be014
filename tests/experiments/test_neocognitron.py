import json

import numpy as np

from experiments import neocognitron as neo


def random_network(seed=0):
    generator, empty = np.random.RandomState(seed), neo.initial()
    return neo.Network(
        tuple(generator.uniform(0, 1, array.shape) for array in empty.a),
        tuple(generator.uniform(0, 5, array.shape) for array in empty.b),
    )


def test_the_layers_have_the_papers_sizes():
    responses = neo.respond(neo.initial(), neo.drawn("4"))
    assert [response.u_s.shape for response in responses] == [(16, 16, 24), (8, 8, 24), (2, 2, 24)]
    assert [response.u_c.shape for response in responses] == [(10, 10, 24), (6, 6, 24), (1, 1, 24)]
    assert [response.seen.shape[2:] for response in responses] == [(5, 5, 1), (5, 5, 24), (5, 5, 24)]
    for before in (1, 24):
        np.testing.assert_allclose(before * neo.c_weights(before).sum(), 1)


def test_every_cell_computes_its_equation():
    """Equations (1), (3), (4) and (6) cell by cell: places relative to the middles of the planes, nothing beyond a border."""
    network, pattern = random_network(), np.random.RandomState(1).uniform(0, 1, (16, 16))
    responses, before = neo.respond(network, pattern), pattern[..., None]
    for module, a, b, response in zip(neo.MODULES, *network, responses, strict=True):
        generator = np.random.RandomState(2)

        def at(planes, y, x):
            inside = 0 <= y < len(planes) and 0 <= x < len(planes)
            return planes[y, x] if inside else np.zeros(planes.shape[-1])

        shift = (len(before) - module.s_side) // 2  # of a cell's place in the planes before
        for y, x in generator.randint(0, module.s_side, (4, 2)):
            excited, squares = np.zeros(24), 0.0
            for i, j in np.ndindex(5, 5):
                u = at(before, y + shift + i - 2, x + shift + j - 2)
                c = 0.9 ** np.hypot(i - 2, j - 2) / sum(0.9 ** np.hypot(p - 2, q - 2) for p, q in np.ndindex(5, 5))
                excited += u @ a[i, j]
                squares += c / len(u) * (u**2).sum()
            inhibited = 2 * module.r / (1 + module.r) * b * np.sqrt(squares)
            expected = module.r * np.maximum((1 + excited) / (1 + inhibited) - 1, 0)
            np.testing.assert_allclose(response.u_s[y, x], expected, rtol=1e-10)
        size, middle = module.c_window, (module.c_window - 1) / 2
        # Of the first C-cell's window: 10 cells two apart see places -3 to 19 of 16, 6 see -3 to 11 of 8.
        first = 0 if module.c_side == 1 else -3
        apart = 1 if module.c_side == 1 else 2
        for y, x in generator.randint(0, module.c_side, (4, 2)):
            blurred = np.zeros(24)
            for i, j in np.ndindex(size, size):
                place = first + apart * y + i, first + apart * x + j
                blurred += 0.4 ** np.hypot(i - middle, j - middle) * at(response.u_s, *place)
            value = (1 + blurred) / (1 + blurred.mean()) - 1
            expected = np.where(value > 0, value / (0.5 + value), 0)
            np.testing.assert_allclose(response.u_c[y, x], expected, rtol=1e-10)
        before = response.u_c


def test_a_plane_has_one_representative_which_is_the_largest_of_a_column():
    u_s = np.zeros((16, 16, 3))
    u_s[2, 2, 0], u_s[3, 3, 1], u_s[12, 12, 0], u_s[12, 3, 2] = 5.0, 4.0, 7.0, 0.5
    # (3, 3) of plane 1 is the largest of columns that (2, 2) is not in; (12, 12) is larger than (2, 2) in plane 0.
    assert neo.representatives(u_s, 5) == {0: (12, 12), 1: (3, 3), 2: (12, 3)}
    assert neo.representatives(u_s[:2, :2], 2) == {}
    u_s[0, 1, 2] = 9.0
    assert neo.representatives(u_s[:2, :2], 2) == {2: (0, 1)}


def test_a_presentation_reinforces_the_representatives_planes_alone():
    pattern, network = neo.drawn("2"), random_network()
    before = [(a.copy(), b.copy()) for a, b in zip(*network, strict=True)]
    after, responses = neo.reinforced(network, pattern), neo.respond(network, pattern)
    for index, (module, response) in enumerate(zip(neo.MODULES, responses, strict=True)):
        np.testing.assert_array_equal(network.a[index], before[index][0])  # the function is pure
        np.testing.assert_array_equal(network.b[index], before[index][1])
        found = neo.representatives(response.u_s, module.column)
        changed = (after.a[index] != network.a[index]).any((0, 1, 2))
        assert set(np.flatnonzero(changed)) <= set(found) and found
        for plane, place in found.items():
            planes = response.seen.shape[-1]
            expected = module.q * neo.c_weights(planes)[..., None] * response.seen[place]
            np.testing.assert_allclose(after.a[index][..., plane] - network.a[index][..., plane], expected, atol=1e-12)
            change = after.b[index][plane] - network.b[index][plane]
            np.testing.assert_allclose(change, module.q / 2 * response.v_c[place], atol=1e-12)


def test_a_learned_pattern_is_preferred_to_another():
    """After a few presentations the cell that responds most to a one is not inhibited by it, and hardly responds to a three."""
    network = neo.initial()
    for _ in range(4):
        for digit in ("1", "3"):
            network = neo.reinforced(network, neo.drawn(digit))
    one, three = neo.last_cells(network, [neo.drawn("1"), neo.drawn("3")])
    assert one.argmax() != three.argmax() and one.max() > 0 and three.max() > 0
    assert three[one.argmax()] < three.max() / 2


def test_the_committed_page_is_the_stored_results():
    stored = json.loads((neo.RESULTS / "neocognitron.json").read_text())
    assert (neo.RESULTS / "neocognitron.md").read_text() == neo.page(stored)
    assert set(stored["drawings"]) == set(neo.DRAWN) and len(stored["digits"]) == 10
    assert stored["cells"] == neo.SERIES * [5] and min(stored["shares"]) > 0.95  # the paper's result
    assert (neo.RESULTS / "neocognitron.svg").stat().st_size > 2000
