// What every instruction set has from the compiler: vectors of kLanes numbers with C's operators, comparisons that give
// lanes of all ones or zeros, and `mask ? yes : no`. Each set's header includes this inside its own namespace, for its
// own target: no include guard.
//
// Always inlined, so that no copy compiled for one target can be linked into another.
#define FASTLIC_INLINE [[FASTLIC_TARGET, gnu::always_inline]] inline

using Ints = std::int32_t __attribute__((vector_size(4 * kLanes)));
using Uints = std::uint32_t __attribute__((vector_size(4 * kLanes)));
using Floats = float __attribute__((vector_size(4 * kLanes)));
using Bytes = std::uint8_t __attribute__((vector_size(4 * kLanes)));  // four times as many
using Words = std::int16_t __attribute__((vector_size(4 * kLanes)));  // twice as many
using Longs = std::int64_t __attribute__((vector_size(4 * kLanes)));  // half as many
using Doubles = double __attribute__((vector_size(4 * kLanes)));
constexpr std::size_t kByteLanes = 4 * kLanes, kWordLanes = 2 * kLanes, kLongLanes = kLanes / 2;

// As many as kLanes.
struct Wide {
  Longs low, high;
};

// Rows are not always aligned to whole vectors. (Through memcpy, GCC would leave arrays of vectors in memory.)
template <typename Vector>
struct [[gnu::packed, gnu::may_alias]] Anywhere {
  Vector value;
};
template <typename Vector, typename T>
FASTLIC_INLINE Vector load_as(const T* from) {
  static_assert(sizeof(Vector) % sizeof(T) == 0);
  return reinterpret_cast<const Anywhere<Vector>*>(from)->value;
}
template <typename Vector, typename T>
FASTLIC_INLINE void store(Vector x, T* to) {
  static_assert(sizeof(Vector) % sizeof(T) == 0);
  reinterpret_cast<Anywhere<Vector>*>(to)->value = x;
}
FASTLIC_INLINE Ints load(const std::int32_t* from) { return load_as<Ints>(from); }
FASTLIC_INLINE Words load(const std::int16_t* from) { return load_as<Words>(from); }
FASTLIC_INLINE Floats load(const float* from) { return load_as<Floats>(from); }
FASTLIC_INLINE Doubles load(const double* from) { return load_as<Doubles>(from); }
FASTLIC_INLINE Wide load(const std::int64_t* from) { return {load_as<Longs>(from), load_as<Longs>(from + kLongLanes)}; }
FASTLIC_INLINE void store_single(Ints x, std::int32_t* to) { store(x, to); }
// Two vectors one after the other; each set has its own for int16, of numbers that fit.
FASTLIC_INLINE void store_pair(Ints a, Ints b, std::int32_t* to) {
  store(a, to);
  store(b, to + kLanes);
}

template <typename Vector, typename T>
FASTLIC_INLINE Vector all(T value) {
  return value - Vector{};  // not a sum: -0 + 0 is 0
}
FASTLIC_INLINE Wide wide(std::int64_t value) { return {all<Longs>(value), all<Longs>(value)}; }
template <typename Vector>
FASTLIC_INLINE Vector least(Vector a, Vector b) {
  return a < b ? a : b;
}
template <typename Vector>
FASTLIC_INLINE Vector most(Vector a, Vector b) {
  return a > b ? a : b;
}

// Of sets with wide vectors only: dot of vectors of half their size.
using Narrow = std::int32_t __attribute__((vector_size(32)));
template <typename Ints>
Ints narrow_dot(Ints sum, const std::int16_t* a, const std::int16_t* b);

// Of sets with products of bytes only: four in each lane, unsigned by signed.
template <typename Bytes>
Bytes add_byte_products(Bytes sum, Bytes a, Bytes b);

// Of sets with kHighProducts only: the high halves of products.
template <typename Ints>
Ints multiply_high(Ints a, Ints b);

// Of sets with kPairedSums only: sums += x * w + y * u, kWordLanes of them, in an order of the set's own; and from that
// to the usual one.
template <typename Ints>
void multiply_add_both(Ints (&sums)[2], const std::int16_t* x, const std::int16_t* w, const std::int16_t* y,
                       const std::int16_t* u);
template <typename Ints>
void put_in_order(Ints (&sums)[2]);

// Of sets with kPermutes only: tables of 32 numbers, in registers.
template <typename Table>
Ints look_up_32(const Table& table, Ints at);

FASTLIC_INLINE Ints bits(Floats x) { return reinterpret_cast<Ints>(x); }
FASTLIC_INLINE Floats from_bits(Ints x) { return reinterpret_cast<Floats>(x); }
FASTLIC_INLINE Floats to_floats(Ints x) { return __builtin_convertvector(x, Floats); }
FASTLIC_INLINE Ints truncate(Floats x) { return __builtin_convertvector(x, Ints); }
