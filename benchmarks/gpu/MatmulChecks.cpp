//===- MatmulChecks.cpp - products on the GPU against f64 on the host -----===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GpuHarness.h"
#include <algorithm>
#include <cmath>
#include <cstdio>

namespace zopt::benchmark {

using namespace zopt::runtime::cuda;

namespace {

constexpr int64_t kScratch = (int64_t(32) << 20) + kWorkspaceAlignment;
constexpr unsigned char kPoison = 0xff; // a NaN in every float type

/// A command with its operands on the host and what they should give.
struct Problem {
  Command command;
  HostTensor lhs, rhs, bias, aux, addend; // aux: of GeluGrad
  std::vector<double> out, auxOut, biasGradient; // logical elements in row-major order
};

/// What was measured of one problem.
struct Outcome {
  std::string refusal; // of the rules or of the library
  double error = 0, auxError = 0, biasError = 0;
  bool sameBits = true, paddingKept = true;
  int64_t candidates = 0;
};

double gelu(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
double geluGradient(double x) {
  const double c = std::sqrt(2 / M_PI), t = std::tanh(c * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x);
}

/// Calls body(row-major index, element) of every logical element.
template <typename Body>
void forEach(const MatmulOperand &operand, Body body) {
  const int64_t count = elementCount(operand.shape);
  for (int64_t i = 0; i < count; ++i) {
    int64_t element = 0, rest = i;
    for (size_t axis = operand.shape.size(); axis-- > 0;) {
      element += rest % operand.shape[axis] * operand.strides[axis];
      rest /= operand.shape[axis];
    }
    body(i, element);
  }
}

/// The operand's values, broadcast to `batches` of out, [batch][rows][columns].
std::vector<double> valuesOf(const HostTensor &tensor, const std::vector<int64_t> &batchShape) {
  MatmulOperand wide = tensor.layout;
  const size_t missing = batchShape.size() + 2 - wide.shape.size();
  wide.shape.insert(wide.shape.begin(), missing, 1);
  wide.strides.insert(wide.strides.begin(), missing, 0);
  for (size_t i = 0; i < batchShape.size(); ++i)
    if (wide.shape[i] == 1) {
      wide.shape[i] = batchShape[i];
      wide.strides[i] = 0;
    }
  std::vector<double> values(size_t(elementCount(wide.shape)));
  forEach(wide, [&](int64_t index, int64_t element) { values[size_t(index)] = tensor.at(element); });
  return values;
}

void computeReference(Problem &problem) {
  const Command &command = problem.command;
  const std::vector<int64_t> &shape = command.out.shape;
  const std::vector<int64_t> batchShape(shape.begin(), shape.end() - 2);
  const int64_t batches = elementCount(batchShape), rows = shape[shape.size() - 2], columns = shape.back(), depth = command.lhs.shape.back();
  std::vector<double> lhs = valuesOf(problem.lhs, batchShape), rhs = valuesOf(problem.rhs, batchShape), aux;
  if (command.epilogue == Epilogue::GeluGrad)
    aux = valuesOf(problem.aux, batchShape);
  std::vector<double> addend;
  if (hasAddend(command))
    addend = valuesOf(problem.addend, batchShape);
  problem.out.assign(size_t(batches * rows * columns), 0);
  problem.auxOut.clear();
  for (int64_t b = 0; b < batches; ++b)
    for (int64_t i = 0; i < rows; ++i) {
      double *row = &problem.out[size_t((b * rows + i) * columns)];
      for (int64_t k = 0; k < depth; ++k) {
        const double factor = lhs[size_t((b * rows + i) * depth + k)], *from = &rhs[size_t((b * depth + k) * columns)];
        for (int64_t j = 0; j < columns; ++j)
          row[j] += factor * from[j];
      }
      for (int64_t j = 0; j < columns; ++j) {
        row[j] *= command.scale;
        if (!command.bias.shape.empty())
          row[j] += problem.bias.at(j);
        if (!addend.empty())
          row[j] += addend[size_t((b * rows + i) * columns + j)];
      }
    }
  if (command.epilogue == Epilogue::Gelu) {
    problem.auxOut = problem.out;
    for (double &value : problem.out)
      value = gelu(value);
  }
  for (size_t i = 0; i < aux.size(); ++i)
    problem.out[i] *= geluGradient(aux[i]);

  const bool ofRows = command.biasGradient == BiasGradient::LhsRows;
  problem.biasGradient.assign(size_t(ofRows ? rows : columns), 0);
  if (ofRows)
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t k = 0; k < depth; ++k)
        problem.biasGradient[size_t(i)] += lhs[size_t(i * depth + k)];
  else if (command.biasGradient == BiasGradient::RhsColumns)
    for (int64_t k = 0; k < depth; ++k)
      for (int64_t j = 0; j < columns; ++j)
        problem.biasGradient[size_t(j)] += rhs[size_t(k * columns + j)];
  else if (command.biasGradient == BiasGradient::OutColumns)
    for (int64_t i = 0; i < batches * rows; ++i)
      for (int64_t j = 0; j < columns; ++j)
        problem.biasGradient[size_t(j)] += problem.out[size_t(i * columns + j)];
}

double relativeError(const HostTensor &tensor, const std::vector<double> &expected) {
  double difference = 0, norm = 0;
  forEach(tensor.layout, [&](int64_t index, int64_t element) {
    const double error = tensor.at(element) - expected[size_t(index)];
    difference += error * error;
    norm += expected[size_t(index)] * expected[size_t(index)];
  });
  return std::sqrt(difference / std::max(norm, 1e-300));
}

/// Whether the bytes between elements still hold the poison.
bool paddingKept(const HostTensor &tensor) {
  std::vector<bool> written(tensor.bytes.size());
  const int64_t size = sizeOf(tensor.layout.type);
  forEach(tensor.layout, [&](int64_t, int64_t element) { std::fill_n(written.begin() + element * size, size, true); });
  for (size_t i = 0; i < written.size(); ++i)
    if (!written[i] && static_cast<unsigned char>(tensor.bytes[i]) != kPoison)
      return false;
  return true;
}

class Runner {
public:
  Runner(Gpu &gpu, LibraryContext &context) : gpu(gpu), context(context), scratch(gpu, kScratch) {}

  Outcome run(Problem &problem) {
    Outcome outcome;
    const Command &command = problem.command;
    Result<std::unique_ptr<DeviceMatmul>> matmul = createMatmul(context, command, kScratch);
    if (matmul.failed()) {
      outcome.refusal = matmul.getStatus().message();
      return outcome;
    }
    outcome.candidates = (*matmul)->candidates();
    computeReference(problem);
    HostTensor out(command.out), auxOut, biasGradient;
    const bool writesAux = command.epilogue == Epilogue::Gelu && !command.aux.shape.empty();
    if (writesAux)
      auxOut = HostTensor(command.aux);
    if (command.biasGradient != BiasGradient::None)
      biasGradient = HostTensor(matrixOperand(command.out.type, {1, int64_t(problem.biasGradient.size())}));
    Memory lhs = place(problem.lhs), rhs = place(problem.rhs), bias = place(problem.bias), aux = place(writesAux ? auxOut : problem.aux);
    Memory outMemory(gpu, int64_t(out.bytes.size())), sums(gpu, int64_t(biasGradient.bytes.size()) + 1);
    const bool adds = hasAddend(command); // in place
    const CUdeviceptr buffers[] = {lhs.get(), rhs.get(), outMemory.get(), bias.get(), scratch.get(), aux.get(), sums.get(), adds ? outMemory.get() : 0};
    std::vector<char> firstOut, firstAux, firstSums;
    for (int i = 0; i < 3; ++i) {
      gpu.fill(outMemory.get(), kPoison, outMemory.size());
      if (adds)
        gpu.upload(outMemory.get(), problem.addend.bytes.data(), outMemory.size());
      gpu.fill(sums.get(), kPoison, sums.size());
      gpu.fill(scratch.get(), i == 1 ? 0x3c : kPoison, scratch.size());
      if (writesAux)
        gpu.fill(aux.get(), kPoison, aux.size());
      if (Status status = (*matmul)->run(gpu.stream(), buffers); status.failed()) {
        outcome.refusal = status.message();
        return outcome;
      }
      fetch(out, outMemory);
      fetch(auxOut, aux);
      fetch(biasGradient, sums);
      if (i == 0) {
        firstOut = out.bytes;
        firstAux = auxOut.bytes;
        firstSums = biasGradient.bytes;
      }
      outcome.sameBits &= out.bytes == firstOut && auxOut.bytes == firstAux && biasGradient.bytes == firstSums;
    }
    outcome.error = relativeError(out, problem.out);
    outcome.paddingKept = adds || paddingKept(out);
    if (writesAux)
      outcome.auxError = relativeError(auxOut, problem.auxOut);
    if (command.biasGradient != BiasGradient::None)
      outcome.biasError = relativeError(biasGradient, problem.biasGradient);
    return outcome;
  }

private:
  Memory place(const HostTensor &tensor) {
    Memory memory(gpu, int64_t(tensor.bytes.size()) + 1);
    if (!tensor.bytes.empty())
      gpu.upload(memory.get(), tensor.bytes.data(), int64_t(tensor.bytes.size()));
    return memory;
  }
  void fetch(HostTensor &tensor, const Memory &memory) {
    if (!tensor.bytes.empty())
      gpu.download(tensor.bytes.data(), memory.get(), int64_t(tensor.bytes.size()));
  }

  Gpu &gpu;
  LibraryContext &context;
  Memory scratch;
};

double tolerance(DataType in, DataType out, bool hasEpilogue) {
  switch (out) {
  case DataType::BF16:
    return 4e-3;
  case DataType::F16:
    return 6e-4;
  case DataType::F64:
    return 1e-13;
  default: // TF32 would give 3e-4; the library's tanh is the hardware's
    return hasEpilogue ? 1e-4 : 1e-5;
  }
}

struct Sizes {
  int64_t m, n, k;
};

int64_t roundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

Problem makeProblem(DataType in, DataType out, Sizes sizes, bool lhsTransposed, bool rhsTransposed, bool outTransposed, uint64_t seed) {
  Problem problem;
  Command &command = problem.command;
  command.kind = Command::Kind::Matmul;
  command.scale = 0.5;
  command.lhs = matrixOperand(in, {sizes.m, sizes.k}, lhsTransposed);
  command.rhs = matrixOperand(in, {sizes.k, sizes.n}, rhsTransposed);
  command.out = matrixOperand(out, {sizes.m, sizes.n}, outTransposed);
  Random random(seed);
  problem.lhs = HostTensor(command.lhs);
  problem.rhs = HostTensor(command.rhs);
  problem.lhs.randomize(random);
  problem.rhs.randomize(random);
  return problem;
}

std::string typeText(DataType in, DataType out) { return in == out ? nameOf(in) : concat(nameOf(in), "->", nameOf(out)); }

/// All transpositions of one type: a line of the largest error.
void checkPlain(Runner &runner, Verdict &verdict, DataType in, DataType out, Sizes sizes) {
  double worst = 0;
  int ran = 0;
  bool bits = true;
  std::string refused;
  for (int layout = 0; layout < 8; ++layout) {
    Problem problem = makeProblem(in, out, sizes, layout & 1, layout & 2, layout & 4, uint64_t(layout) + 1);
    Outcome outcome = runner.run(problem);
    const std::string name = concat("matmul ", typeText(in, out), " layout ", layout);
    if (!outcome.refusal.empty()) {
      refused = outcome.refusal;
      verdict.check(false, concat(name, ": ", refused));
      continue;
    }
    ++ran;
    worst = outcome.error > worst || std::isnan(outcome.error) ? outcome.error : worst;
    bits &= outcome.sameBits;
    verdict.check(outcome.error < tolerance(in, out, false) && outcome.sameBits && outcome.paddingKept, concat(name, " error ", outcome.error));
  }
  std::printf("  %-10s %4ld x%4ld x%4ld  %d of 8 layouts, error %.1e, bits %s %s\n", typeText(in, out).c_str(), long(sizes.m), long(sizes.n), long(sizes.k), ran, worst, bits ? "equal" : "DIFFER", refused.c_str());
}

struct EpilogueCase {
  const char *name;
  Epilogue epilogue;
  bool bias, aux;
  BiasGradient biasGradient;
  bool outTransposed;
  bool addend = false;
};

constexpr EpilogueCase kEpilogues[] = {
    {"bias", Epilogue::None, true, false, BiasGradient::None, false},
    {"gelu", Epilogue::Gelu, false, false, BiasGradient::None, false},
    {"gelu bias", Epilogue::Gelu, true, false, BiasGradient::None, false},
    {"gelu aux", Epilogue::Gelu, false, true, BiasGradient::None, false},
    {"gelu aux bias", Epilogue::Gelu, true, true, BiasGradient::None, false},
    {"gelu_grad", Epilogue::GeluGrad, false, true, BiasGradient::None, false},
    {"gelu_grad columns", Epilogue::GeluGrad, false, true, BiasGradient::OutColumns, false},
    {"lhs_rows", Epilogue::None, false, false, BiasGradient::LhsRows, false},
    {"rhs_columns", Epilogue::None, false, false, BiasGradient::RhsColumns, false},
    {"gelu aux ^T", Epilogue::Gelu, false, true, BiasGradient::None, true},
    {"gelu_grad ^T", Epilogue::GeluGrad, false, true, BiasGradient::None, true},
    {"lhs_rows ^T", Epilogue::None, false, false, BiasGradient::LhsRows, true},
    {"rhs_columns ^T", Epilogue::None, false, false, BiasGradient::RhsColumns, true},
    {"addend", Epilogue::None, false, false, BiasGradient::None, false, true},
    {"addend bias", Epilogue::None, true, false, BiasGradient::None, false, true},
    {"addend ^T", Epilogue::None, false, false, BiasGradient::None, true, true},
};

/// A line of the four transpositions of the operands. A refusal of the library is told, not failed: it is what the rules should learn.
void checkEpilogue(Runner &runner, Verdict &verdict, DataType in, DataType out, Sizes sizes, const EpilogueCase &which) {
  std::string line;
  for (int layout = 0; layout < 4; ++layout) {
    Problem problem = makeProblem(in, out, sizes, layout & 1, layout & 2, which.outTransposed, uint64_t(layout) + 11);
    Command &command = problem.command;
    Random random(99);
    command.epilogue = which.epilogue;
    command.biasGradient = which.biasGradient;
    if (which.bias) {
      command.bias = matrixOperand(out, {1, sizes.n});
      problem.bias = HostTensor(command.bias);
      problem.bias.randomize(random);
    }
    if (which.addend) {
      command.buffers = {0, 1, 2, -1, -1, -1, -1, 2};
      problem.addend = HostTensor(command.out);
      problem.addend.randomize(random);
    }
    if (which.aux) {
      command.aux = matrixOperand(out, {sizes.m, sizes.n}, which.outTransposed, roundUp(which.outTransposed ? sizes.m : sizes.n, 8));
      if (which.epilogue == Epilogue::GeluGrad) {
        problem.aux = HostTensor(command.aux);
        problem.aux.randomize(random);
      }
    }
    Outcome outcome = runner.run(problem);
    const char *names[] = {"nn", "tn", "nt", "tt"};
    line += concat("  ", names[layout], " ");
    if (!outcome.refusal.empty()) {
      line += "refused";
      continue;
    }
    const double error = std::max({outcome.error, outcome.auxError, outcome.biasError});
    const bool nan = std::isnan(outcome.error) || std::isnan(outcome.auxError) || std::isnan(outcome.biasError);
    const bool good = !nan && error < tolerance(in, out, true) && outcome.sameBits && outcome.paddingKept;
    char text[96];
    std::snprintf(text, sizeof text, "%.1e%s%s", nan ? NAN : error, outcome.sameBits ? "" : " BITS", outcome.paddingKept ? "" : " PADDING");
    line += text;
    line += verdict.check(good, concat("matmul ", typeText(in, out), " ", which.name, " ", names[layout], ": out ", outcome.error, ", aux ", outcome.auxError, ", bias gradient ", outcome.biasError));
  }
  std::printf("  %-10s %-18s %4ld x%4ld x%4ld%s\n", typeText(in, out).c_str(), which.name, long(sizes.m), long(sizes.n), long(sizes.k), line.c_str());
}

void checkOne(Runner &runner, Verdict &verdict, const char *name, Problem &problem) {
  Random random(5);
  problem.lhs = HostTensor(problem.command.lhs);
  problem.rhs = HostTensor(problem.command.rhs);
  problem.lhs.randomize(random);
  problem.rhs.randomize(random);
  Outcome outcome = runner.run(problem);
  const bool good = outcome.refusal.empty() && outcome.error < tolerance(problem.command.lhs.type, problem.command.out.type, false) && outcome.sameBits && outcome.paddingKept;
  const char *text = verdict.check(good, concat("matmul ", name, ": error ", outcome.error, " ", outcome.refusal));
  Result<MatmulMapping> mapping = mapMatmul(problem.command);
  std::printf("  %-44s error %.1e, batch %ld, calls %ld%s %s\n", name, outcome.error, mapping.failed() ? -1L : long(mapping->batch), mapping.failed() ? -1L : long(mapping->calls()), text, outcome.refusal.c_str());
}

void checkBatches(Runner &runner, Verdict &verdict) {
  const DataType type = DataType::BF16;
  const int64_t B = 3, H = 4, T = 48, D = 32;
  auto packed = [&] { // [B, H, T, D] of [B, T, 3, H, D]
    MatmulOperand operand;
    operand.type = type;
    operand.shape = {B, H, T, D};
    operand.strides = {T * 3 * H * D, D, 3 * H * D, 1};
    return operand;
  };
  auto transposed = [](MatmulOperand operand) {
    std::swap(operand.shape[operand.shape.size() - 1], operand.shape[operand.shape.size() - 2]);
    std::swap(operand.strides[operand.strides.size() - 1], operand.strides[operand.strides.size() - 2]);
    return operand;
  };
  Problem scores;
  scores.command.scale = 0.125;
  scores.command.lhs = packed();
  scores.command.rhs = transposed(packed());
  scores.command.out = matrixOperand(type, {B, H, T, T});
  checkOne(runner, verdict, "scores of packed heads", scores);

  Problem values;
  values.command.lhs = matrixOperand(type, {B, H, T, T});
  values.command.rhs = packed();
  values.command.out = packed();
  values.command.out.strides = {T * H * D, D, H * D, 1};
  checkOne(runner, verdict, "values of packed heads into [B, T, H, D]", values);

  Problem linear;
  linear.command.lhs = matrixOperand(type, {B, T, D});
  linear.command.rhs = matrixOperand(type, {D, 40});
  linear.command.out = matrixOperand(type, {B, T, 40}, false, 56);
  checkOne(runner, verdict, "batches folded into rows, pitch 56", linear);

  Problem broadcast;
  broadcast.command.lhs = matrixOperand(type, {1, T, D});
  broadcast.command.rhs = matrixOperand(type, {5, D, 40});
  broadcast.command.out = matrixOperand(type, {5, T, 40});
  checkOne(runner, verdict, "lhs broadcast over a batch", broadcast);

  Problem row;
  row.command.lhs = matrixOperand(type, {1, 64});
  row.command.rhs = matrixOperand(type, {64, 40}, true);
  row.command.out = matrixOperand(type, {1, 40});
  checkOne(runner, verdict, "one row", row);

  Problem column;
  column.command.lhs = matrixOperand(DataType::F32, {48, 64}, true);
  column.command.rhs = matrixOperand(DataType::F32, {64, 1});
  column.command.out = matrixOperand(DataType::F32, {48, 1});
  checkOne(runner, verdict, "one column", column);
}

/// A deep product, where algorithms split k: every candidate three times.
void checkCandidates(Runner &runner, Verdict &verdict, BiasGradient biasGradient) {
  std::string line;
  int64_t count = 1;
  for (int64_t i = 0; i < std::min<int64_t>(count, 8); ++i) {
    Problem problem = makeProblem(DataType::BF16, DataType::BF16, {320, 320, 8192}, true, false, false, 3);
    problem.command.algorithm = i;
    problem.command.biasGradient = biasGradient;
    Outcome outcome = runner.run(problem);
    count = outcome.candidates;
    char text[64];
    std::snprintf(text, sizeof text, " %.1e%s", outcome.error, outcome.sameBits ? "" : " BITS");
    line += outcome.refusal.empty() ? text : " " + outcome.refusal;
    line += verdict.check(outcome.refusal.empty() && outcome.error < 4e-3 && outcome.biasError < 4e-3 && outcome.sameBits, concat("candidate ", i, " of a deep product"));
  }
  std::printf("  deep product%s, %ld candidates:%s\n", biasGradient == BiasGradient::None ? "" : " with rhs_columns", long(count), line.c_str());
}

} // namespace

void checkMatmuls(Gpu &gpu, LibraryContext &context, Verdict &verdict) {
  Runner runner(gpu, context);
  const std::pair<DataType, DataType> types[] = {{DataType::BF16, DataType::BF16}, {DataType::BF16, DataType::F32}, {DataType::F16, DataType::F16}, {DataType::F16, DataType::F32}, {DataType::F32, DataType::F32}, {DataType::F64, DataType::F64}};
  const Sizes even{96, 128, 64}, odd{97, 71, 83};
  std::printf("products, relative error to f64\n");
  for (auto [in, out] : types)
    for (Sizes sizes : {even, odd})
      checkPlain(runner, verdict, in, out, sizes);
  std::printf("epilogues and bias gradients, largest relative error of out, aux and the sums, for lhs and rhs transposed or not\n");
  for (auto [in, out] : types)
    if (out != DataType::F64)
      for (Sizes sizes : {even, odd})
        for (const EpilogueCase &which : kEpilogues)
          checkEpilogue(runner, verdict, in, out, sizes, which);
  std::printf("batches\n");
  checkBatches(runner, verdict);
  std::printf("candidates\n");
  checkCandidates(runner, verdict, BiasGradient::None);
  checkCandidates(runner, verdict, BiasGradient::RhsColumns);
}

} // namespace zopt::benchmark
