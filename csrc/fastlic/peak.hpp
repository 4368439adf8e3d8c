// What this core can do at most, measured: rooflines of benchmarks.
#pragma once

namespace fastlic {

// Products of int16 pairs a second, added up in int32 by the instructions that the engines' matrix products use at the
// instruction set in force, operands in registers, as many sums under way as hide the latency. 0 for `scalar`.
double peak_products();

// Loads of 32 bits a second that hit the first cache, independent of each other.
double peak_loads();

}  // namespace fastlic
