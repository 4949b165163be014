"""Reading compiled programs: texts by hand, and a program that XLA compiles here."""

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from cnnjax.ahead import program_text

BY_HAND = """HloModule jit_step, is_scheduled=true

%fused (p.1: f32[8,128], p.2: f32[128]) -> f32[8,128] {
  %p.1 = f32[8,128]{1,0} parameter(0)
  %p.2 = f32[128]{0} parameter(1)
  %b.1 = f32[8,128]{1,0} broadcast(%p.2), dimensions={1}
  ROOT %m.1 = f32[8,128]{1,0} multiply(%p.1, %b.1)
}

ENTRY %main (a: f32[8,128], b: f32[128]) -> (f32[8,128], f32[16,128]) {
  %a = f32[8,128]{1,0:T(8,128)} parameter(0)
  %b = f32[128]{0:T(128)} parameter(1)
  %f = f32[8,128]{1,0:T(8,128)} fusion(%a, %b), kind=kLoop, calls=%fused
  %kept = f32[128]{0:T(128)S(1)} copy(%b)
  %s = (f32[8,128]{1,0}, f32[128]{0}) all-reduce-start(%f, %kept), channel_id=1, replica_groups={{0,1}}, to_apply=%add
  %d = (f32[8,128]{1,0}, f32[128]{0}) all-reduce-done(%s)
  %g0 = f32[8,128]{1,0} get-tuple-element(%d), index=0
  %g = f32[16,128]{1,0} all-gather(%g0), channel_id=2, dimensions={0}
  %r = bf16[4]{0} custom-call(%g), custom_call_target="__cudnn$convForward"
  ROOT %t = (f32[8,128]{1,0}, f32[16,128]{1,0}) tuple(%g0, %g)
}
"""


def test_collectives_of_a_text_by_hand():
    assert program_text.collectives(BY_HAND, 2) == {
        "all-reduce": {"number": 1, "bytes": 4 * (8 * 128 + 128)},
        "all-gather": {"number": 1, "bytes": 4 * 16 * 128},
    }


def test_traffic_counts_a_fusion_as_one_and_leaves_the_on_chip_memory_out():
    large, small = 4 * 8 * 128, 4 * 128
    fusion, copy, reduce, gather, call = 2 * large + small, small, 2 * large + small, 3 * large, 2 * large + 8
    assert program_text.traffic(BY_HAND) == fusion + copy + reduce + gather + call


def test_operations_are_named_by_their_targets():
    counted = program_text.opcodes(BY_HAND)
    assert counted["custom-call:__cudnn$convForward"] == 1 and counted["multiply"] == 1 and counted["parameter"] == 4


def test_a_program_compiled_here(eight_devices):
    mesh = Mesh(np.array(eight_devices[:4]), ("devices",))
    step = jax.shard_map(
        lambda x: (jax.lax.psum(x, "devices"), jax.lax.all_gather(x, "devices", tiled=True)),
        mesh=mesh, in_specs=PartitionSpec("devices"), out_specs=PartitionSpec(), check_vma=False,
    )  # fmt: skip
    text = jax.jit(step).lower(jax.ShapeDtypeStruct((8, 3), np.float32)).compile().as_text()
    assert program_text.collectives(text, 4) == {
        "all-reduce": {"number": 1, "bytes": 2 * 3 * 4},
        "all-gather": {"number": 1, "bytes": 8 * 3 * 4},
    }


SLOW = """HloModule jit_step, input_output_alias={ {0}: (0, {}, may-alias), {1}: (1, {}, must-alias) }, entry_computation_layout={()->()}

%body (c: (f32[2])) -> (f32[2]) {
  %c = (f32[2]{0}) parameter(0)
  ROOT %n = (f32[2]{0}) tuple(%c)
}

ENTRY %main (k: f32[5,5,1,6], x: bf16[8,32,32,1]) -> f32[6,5,5,1] {
  %k = f32[5,5,1,6]{3,2,1,0} parameter(0)
  %x = bf16[8,32,32,1]{3,2,1,0} parameter(1)
  %y = bf16[8,28,28,6]{3,2,1,0} convolution(%x, %k), window={size=5x5}, dim_labels=b01f_01io->b01f
  %z = (bf16[8,28,28,6]{3,2,1,0}, u8[0]{0}) custom-call(%x, %x), custom_call_target="__cudnn$convForward"
  %turned = f32[6,5,5,1]{3,2,1,0} transpose(%k), dimensions={3,0,1,2}
  %map = bf16[8,6,28,28]{3,2,1,0} transpose(%y), dimensions={0,3,1,2}
  %w = (f32[2]{0}) while(%t), condition=%cond, body=%body
  ROOT %s = f32[6,5,5,1]{3,2,1,0} scatter(%turned, %i, %u), to_apply=%add
}
"""


def test_what_makes_a_step_slow_is_counted_in_a_text_by_hand():
    assert program_text.counted(SLOW, {5 * 5 * 6}) == {
        "convolutions": 2, "float32_convolutions": 1, "map_transposes": 1, "scatters": 1, "loops": 1, "aliased": 2,
    }  # fmt: skip
