//===- Program.h - what a rank executes, as plain data -----------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The only header that the compiler and the runtime share. A Program is a final plan without MLIR: a flat list of commands with resolved offsets, the tables that map logical tensors to
// buckets, and the names of the kernels in the shared object beside it. One Program serves every rank. Sizes are in bytes or elements as the names say; offsets count from an arena's start.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CORE_PROGRAM_H
#define ZOPT_RUNTIME_CORE_PROGRAM_H

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace zopt::runtime {

/// Changes whenever a field does: a cached Program of another version is compiled anew.
constexpr int kProgramVersion = 6;

enum class DataType { F32, BF16, F16, F64, I64, I32, I16, U16, I8, U8, Bool, U64, U32 };
enum class Tier { Device, Host, File };
enum class MemoryClass { Parameters, Gradients, Optimizer, Gathered, Activations, Workspace, Communication, Inputs, Buffers };

int64_t sizeOf(DataType type);

struct Arena {
  std::string name;
  Tier tier = Tier::Device;
  int64_t bytes = 0;
};

/// Bytes [offset + rank * rankStride, ... + bytes) of an arena.
struct Buffer {
  std::string name;
  int32_t arena = 0;
  int64_t offset = 0;
  int64_t bytes = 0;
  int64_t rankStride = 0;
  MemoryClass memoryClass = MemoryClass::Workspace;
  bool persistent = false;
};

/// `buffers` index, or -1.
using BufferId = int32_t;

/// Where a state's first value comes from: bytes of a weight file, or a splat where `file` is -1.
struct InitialValue {
  int32_t file = -1; // index in Program::weightFiles
  int64_t offset = 0;
  int64_t bytes = 0;
  DataType type = DataType::F32;
  double splat = 0;
};

struct WeightFile {
  std::string path; // relative to the plan's folder
  int64_t size = -1;
  std::string fingerprint; // see Runtime/Core/Fingerprint.h; empty: not checked
};

enum class Role { Parameter, Buffer, Optimizer, Gradient, Scalar };

/// A logical tensor that lives across steps. In a bucket (`bucket` >= 0) it is `elements` elements at `offset`; otherwise it has a buffer of its own, the same on every rank.
struct State {
  std::string name;
  Role role = Role::Parameter;
  DataType type = DataType::F32;
  std::vector<int64_t> shape;
  bool trained = false;
  bool noDecay = false; // does not take the decay that all have
  InitialValue init;
  std::string sourceName;                // the exporter's, where it differs
  std::vector<int64_t> sourcePermutation; // takes this layout to the source's
  std::vector<std::string> tied;         // further initializers that hold the same parameter
  int32_t bucket = -1;
  int64_t offset = 0; // elements, in the bucket
  BufferId buffer = -1;
};

struct Bucket {
  std::string name;
  int64_t paddedElements = 0;
  int64_t sliceElements = 0; // paddedElements / world
  DataType computeType = DataType::F32;
  DataType masterType = DataType::F32;
  DataType gradientType = DataType::F32; // of the reduced gradient that norm and update read
  bool parametersSharded = false;
  bool optimizerSharded = false;
  bool gradientWhole = true; // `gradient` holds paddedElements, not the slice
  bool trained = true;
  BufferId parameters = -1; // paddedElements, or sliceElements where sharded; sharded-optimizer ranks own [rank * sliceElements, +sliceElements)
  BufferId master = -1;     // where the compute type is not the master type
  BufferId gradient = -1;
  std::vector<BufferId> slots; // optimizer state, in the optimizer's order
  std::vector<std::string> slotNames;
};

enum class InputKind { Input, Label };
struct Input {
  std::string name;
  InputKind kind = InputKind::Input;
  DataType type = DataType::I64;
  std::vector<int64_t> shape; // the first is the micro-batch
  BufferId buffer = -1;
  int64_t limit = 0; // 0: not checked
  bool hasIgnoreIndex = false;
  int64_t ignoreIndex = -100;
};
struct Output {
  std::string name;
  DataType type = DataType::F32;
  std::vector<int64_t> shape;
  BufferId buffer = -1;
};

/// How a library reads or writes a buffer. Of a product: shape is batch..., rows, columns; batch sizes of 1 broadcast. Of attention: batch, heads, positions, head width.
struct MatmulOperand {
  DataType type = DataType::F32;
  std::vector<int64_t> shape;
  std::vector<int64_t> strides; // elements
};

/// A generated kernel. On a CPU a function `void symbol(char *const *arguments, int64_t begin, int64_t end)`. On CUDA an entry of the PTX with one pointer an argument (a value where the plan
/// says so), then begin and end (64 bits each): blocks of `blockThreads` threads, each of which runs `blockIterations` neighbouring outer iterations of [begin, end).
struct Kernel {
  std::string symbol;
  int32_t blockThreads = 0; // 0: a CPU kernel
  int32_t blockIterations = 1;
  int32_t sharedBytes = 0; // that a block's threads share and the launch provides: more than code may declare by itself
};

/// What the library does to a product before it stores it. Gelu: out = gelu(product + bias), aux = product + bias. GeluGrad: out = product * gelu'(aux). Both the tanh form.
enum class Epilogue { None, Gelu, GeluGrad };
/// A sum that the library makes beside a product. LhsRows: lhs over k, an element a row of out. RhsColumns: rhs over k, an element a column of out. OutColumns: out over its rows.
enum class BiasGradient { None, LhsRows, RhsColumns, OutColumns };

/// A convolution or one of its gradients: `kind` says which tensor is computed from the other two. Entries an axis of space; `pads` has all begins, then all ends.
struct Convolution {
  enum class Kind { Forward, InputGrad, WeightGrad };
  Kind kind = Kind::Forward;
  std::vector<int64_t> strides, dilations, pads;
  int64_t groups = 1;
};

struct Command {
  enum class Kind { Launch, Matmul, Copy, Zero, AllGather, ReduceScatter, AllReduce, AllReduceScalars, Wait, GradientNorm, Update, Attention, AttentionGrad, ParameterNorms, Convolution };
  Kind kind = Kind::Launch;
  std::string location; // ONNX node or pass that it comes from, for messages and traces

  // Launch, Update, ParameterNorms: index in Program::kernels. ParameterNorms on CUDA: `kernels` are the one that adds block sums (f64) to the words of an ExactSum, and the one that makes the norm of two such
  // sums. GradientNorm: `kernels`, one a bucket; on CUDA then the one that makes the norm of two sums (of sliced gradients, summed over ranks; of whole ones).
  int32_t kernel = -1;
  std::vector<int32_t> kernels;
  // Launch: kernel arguments. Matmul: lhs, rhs, out, bias (or -1), scratch (or -1), and on CUDA aux (or -1), biasGradient (or -1), addend (or -1; laid out
  // as out, which it may be). Attention: query, key, value, output, lse, mask (or -1), scratch
  // (or -1). AttentionGrad: query, key, value, output, lse, cotangent, and the gradients of query, key and value, mask (or -1), scratch (or -1). Convolution: input, weight, output, bias (or -1), scratch (or -1), of which the kind writes one. Copy: source, destination. Zero: buffer. AllGather: source, destination. ReduceScatter: source, destination,
  // workspace. AllReduce: buffer, workspace. AllReduceScalars: source, destination. GradientNorm: workspace, norm; on CUDA the list of gradients (plan.gradient_norm), norm, and the words of two ExactSums (sliced, whole). Update, ParameterNorms: scale, lr, step, finite
  // and, where it is not the bucket's own, the gradient (padded elements of the bucket's gradient type; of the master's where Newton-Schulz iterations made it) or -1, and, where it cycles, the momentum.
  std::vector<BufferId> buffers;
  std::vector<int64_t> byteOffsets; // one a buffer, or empty for zeros
  std::vector<int32_t> writes;      // Launch: indices in `buffers` of those written
  int64_t extent = 0;               // Launch: outer iterations
  int64_t grain = 1;                // Launch: least iterations worth a thread
  int64_t bytes = 0;                // Copy, Zero: bytes. AllGather: bytes a rank
  int64_t elements = 0;             // ReduceScatter, AllReduce: elements a rank. AllReduceScalars: count
  int64_t id = 0;                   // collectives and Wait
  DataType type = DataType::F32;    // collectives: source type. GradientNorm: type of the norm
  DataType destinationType = DataType::F32;
  bool accumulate = false;     // ReduceScatter: add to the destination except in the first micro-step
  bool firstMicroStep = false; // Zero: only then
  std::vector<int32_t> buckets; // Update: one; GradientNorm: all trained ones
  std::vector<double> decays;   // Update: one a segment of the bucket, in order
  std::vector<BufferId> norms;  // of an optimizer with a trust ratio. Update: two norms a segment. ParameterNorms: those, workspace (two halves, a sum a block each), and on CUDA the words of four ExactSums a segment
  std::vector<double> rates;    // Update: factors of the learning rate, one a segment; empty: 1
  double scale = 1;             // Matmul, Attention, AttentionGrad
  MatmulOperand lhs, rhs, out, bias;
  Epilogue epilogue = Epilogue::None;
  MatmulOperand aux; // of a Gelu or GeluGrad epilogue
  BiasGradient biasGradient = BiasGradient::None;
  int64_t algorithm = -1; // Matmul on CUDA: which of the library's candidates, as autotuning chose it; -1: its first
  std::vector<MatmulOperand> tensors; // Attention, AttentionGrad, Convolution: as `buffers`, without the scratch (and a bias that is not there); lse is fp32 [batch, heads, queries, 1]
  bool causal = false;
  bool ownKernels = false; // AttentionGrad on CUDA: by kernels of the runtime for compute capability 9.0, not by the library
  runtime::Convolution convolution;
};

/// Whether an Update (or ParameterNorms) reads another gradient than the bucket's.
inline bool hasOwnGradient(const Command &command) { return command.buffers.size() > 4 && command.buffers[4] >= 0; }

/// The range of bytes that a command reads or writes can be derived from the fields above; Runtime/Core/Memory.h does, to measure the high-water mark of live bytes.
struct Sequence {
  std::string name; // micro_step and apply_step, and eval_step where the plan has one; or forward
  std::vector<Command> commands;
};

struct Program {
  int version = kProgramVersion;
  std::string planHash;   // xxh3 of the final plan's text: ranks compare it
  std::string model;      // for messages
  std::string mode;       // train | gradient | forward
  std::string target;     // cpu or cuda
  std::string cpu, features; // cuda: the chip ("sm_90") and PTX version ("+ptx80")
  std::vector<std::string> libraries;
  int64_t worldSize = 1, threads = 1, microBatch = 1, accumSteps = 1;
  int64_t sequenceLength = 0; // tokens a sample, 0 where there is none
  int64_t flops = 0;          // of the products of a rank's micro-step, forward and backward, nothing computed twice; 0: not known
  bool lossAverageGlobal = true;
  double learningRate = 1e-3;
  std::string schedule; // of the rate, see Schedule.h
  std::map<std::string, std::string> compiled; // zopt's flags that it was made with, where nothing else tells them
  std::map<std::string, std::string> run;      // zrun's flags that hold where the command line has none
  std::vector<Arena> arenas;
  std::vector<Buffer> buffers;
  std::vector<WeightFile> weightFiles;
  std::vector<State> states;
  std::vector<Bucket> buckets;
  std::vector<Input> inputs;
  std::vector<Output> outputs;
  std::vector<Kernel> kernels;
  std::string sharedObject; // file name, beside the Program: a shared object, or PTX
  std::vector<Sequence> sequences;
  // Scalars, as states: zopt.lr and zopt.lr_if_skipped (written by the runtime before a step whose rate is another), zopt.clip (0: none), zopt.loss_scale (with fp16),
  // zopt.step (steps applied so far: kept by the plan itself), zopt.loss, zopt.norm, zopt.finite (read after a step).
  std::vector<std::pair<std::string, int64_t>> peakByClass; // planned bytes a class at the planned peak
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CORE_PROGRAM_H
