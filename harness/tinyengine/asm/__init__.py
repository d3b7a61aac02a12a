"""Generated inner loops for Armv7E-M, each with a plain C twin that reads the same packed data.

    requant         which instructions turn a sum into a byte, proven for every reachable sum
    post            that as code and constants
    gemm, expand    the micro-kernel of convolutions, and the widening of its inputs
    depthwise_tile  the micro-kernel of depthwise convolutions over planes of bytes
    pair_tile       the same over rows of 16-bit pairs, which pair_rows makes of pixels
    conv, dense     whole layers from these, as the planner's candidates
    interleave      the order of the instructions; emit: their text
    c/              what is not generated: twins, and the last pixels

Everything here is pure: works in, C text and costs out. Estimates of instructions are counted on the
code itself; only loops that GCC compiles are estimated.
"""
