//===- KernelHarness.h - runs the kernels of one op on data ----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Values are doubles, rounded to a tensor's type when they enter and exact when they leave.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_TEST_UNIT_CONVERSION_KERNELHARNESS_H
#define ZOPT_TEST_UNIT_CONVERSION_KERNELHARNESS_H

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace zopt::test {

enum class Type { F32, BF16, F64, I64, I32, I8, I1 };
/// As MLIR has it.
std::string nameOf(Type type);

struct Tensor {
  Type type = Type::F32;
  std::vector<int64_t> shape;
  std::vector<double> values;   // row-major
  std::vector<int64_t> strides; // elements; empty: contiguous

  int64_t count() const;
  double at(const std::vector<int64_t> &index) const;
};

/// A tensor of random values in [low, high), rounded to the type; the same for the same arguments.
Tensor random(Type type, std::vector<int64_t> shape, double low = -2, double high = 2, unsigned seed = 1);
Tensor full(Type type, std::vector<int64_t> shape, double value);
double roundTo(Type type, double value);

/// Generates, compiles and runs the kernels of `op`, MLIR text such as `%r = train.add %0, %1 : ...`, where %0, %1, ... are `inputs`; results have the types `outputs` (values ignored, strides kept).
/// The launches run twice on buffers that begin one element after an aligned address: whole, and in three parts from the last to the first. Fails the test unless both give the same bytes and no
/// byte outside of a result's elements changes. Results start out as poison. Kernels for the GPU, where the program is built for them, run emulated, on aligned buffers too, with the same bytes.
std::vector<Tensor> run(const std::string &op, const std::vector<Tensor> &inputs, const std::vector<Tensor> &outputs);

/// What kernels are compiled for from now on: a name that LLVM knows, such as "x86-64-v3"; empty: this machine, which is where one starts.
void setProcessor(const std::string &name);

/// GPU: whether launches of their own sum the partial results of columns from now on.
void setTotalsApart(bool apart);

/// Fails the test unless result 0 has the same bytes in the buffer of an operand.
void checkInPlace(const std::string &op, const std::vector<Tensor> &inputs, const std::vector<Tensor> &outputs, int operand);

/// GPU: the PTX of the kernels for aligned buffers.
std::string ptxOf(const std::string &op, const std::vector<Tensor> &inputs, const std::vector<Tensor> &outputs, const std::string &chip = "sm_90");

/// A shared object with every kernel of `module`, MLIR text of plan.kernel ops or of a train.optimizer, and its symbols.
class Library {
public:
  explicit Library(const std::string &path);
  ~Library();
  using Kernel = void (*)(char *const *arguments, int64_t begin, int64_t end);
  Kernel get(const std::string &kernel) const;

private:
  void *handle;
};

/// The update kernel of `optimizer` (a train.optimizer op's text) on buffers of bytes, and the squares kernel: see plan.update and plan.gradient_norm.
void runUpdate(const std::string &optimizer, Type computeType, Type gradientType, bool hasMaster, std::vector<Tensor> &buffers, int64_t beginBlock, int64_t endBlock, bool hasRate = false);
/// The kernel of plan.parameter_norms, likewise.
void runParameterNorms(const std::string &optimizer, Type computeType, Type gradientType, bool hasMaster, std::vector<Tensor> &buffers, int64_t beginBlock, int64_t endBlock, bool hasRate);
std::vector<double> runSquares(const Tensor &gradient); // CPU

/// GPU: the words of an exact sum of `values` (f64), by several launches, and the root of the sum of two of them.
constexpr int64_t kSumWords = 75;
std::vector<int64_t> runAccumulate(const std::vector<double> &values);
/// GPU: the words of the exact sum of the squares of `gradients`, each in a place of its own, by blocks [begin, end) of all of them, which `blocks` blocks of threads share.
std::vector<int64_t> runSquareSums(const std::vector<Tensor> &gradients, int64_t begin, int64_t end, int64_t blocks);
/// GPU: sets to 0, by one launch, the stretches of words of each kind in `buffers` of i16, as many of the first kind as it says, then those of the next, ...; returns them.
struct ZeroedKind {
  int64_t count;
  std::vector<std::pair<int64_t, int64_t>> stretches;
};
std::vector<Tensor> runZeros(const std::vector<ZeroedKind> &kinds, const std::vector<Tensor> &buffers);
double runNorm(Type normType, const std::vector<int64_t> &sliced, const std::vector<int64_t> &whole);

/// Fails the test where an element differs by more than absolute + relative * |expected|.
void expectNear(const Tensor &actual, const std::vector<double> &expected, double relative, double absolute);

} // namespace zopt::test

#endif // ZOPT_TEST_UNIT_CONVERSION_KERNELHARNESS_H
