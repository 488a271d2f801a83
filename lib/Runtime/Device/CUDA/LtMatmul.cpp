//===- LtMatmul.cpp - matrix products by cuBLASLt -------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LibraryTables.h"
#include "zopt/Runtime/Core/DataType.h"
#include <algorithm>
#include <cstring>
#include <vector>

namespace zopt::runtime::cuda {

namespace {

enum BufferIndex { Lhs, Rhs, Out, Bias, Scratch, Aux, BiasSum, Addend = kAddendBuffer };

/// Arena offsets are multiples of this (C1 of plan.buffer), so a buffer's address is too.
constexpr int64_t kBufferAlignment = 64;

cudaDataType_t libraryType(DataType type) {
  switch (type) {
  case DataType::BF16:
    return CUDA_R_16BF;
  case DataType::F16:
    return CUDA_R_16F;
  case DataType::F64:
    return CUDA_R_64F;
  default:
    return CUDA_R_32F;
  }
}

cublasLtEpilogue_t libraryEpilogue(LibraryEpilogue epilogue) {
  switch (epilogue) {
  case LibraryEpilogue::None:
    return CUBLASLT_EPILOGUE_DEFAULT;
  case LibraryEpilogue::Bias:
    return CUBLASLT_EPILOGUE_BIAS;
  case LibraryEpilogue::Gelu:
    return CUBLASLT_EPILOGUE_GELU;
  case LibraryEpilogue::GeluBias:
    return CUBLASLT_EPILOGUE_GELU_BIAS;
  case LibraryEpilogue::GeluAux:
    return CUBLASLT_EPILOGUE_GELU_AUX;
  case LibraryEpilogue::GeluAuxBias:
    return CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
  case LibraryEpilogue::GeluGrad:
    return CUBLASLT_EPILOGUE_DGELU;
  case LibraryEpilogue::GeluGradBiasGradient:
    return CUBLASLT_EPILOGUE_DGELU_BGRAD;
  case LibraryEpilogue::BiasGradientA:
    return CUBLASLT_EPILOGUE_BGRADA;
  case LibraryEpilogue::BiasGradientB:
    return CUBLASLT_EPILOGUE_BGRADB;
  }
  return CUBLASLT_EPILOGUE_DEFAULT;
}

/// Of bias or the gradient of one; -1 where the epilogue has neither.
int vectorBuffer(LibraryEpilogue epilogue) {
  switch (epilogue) {
  case LibraryEpilogue::Bias:
  case LibraryEpilogue::GeluBias:
  case LibraryEpilogue::GeluAuxBias:
    return Bias;
  case LibraryEpilogue::GeluGradBiasGradient:
  case LibraryEpilogue::BiasGradientA:
  case LibraryEpilogue::BiasGradientB:
    return BiasSum;
  default:
    return -1;
  }
}

/// The largest power of two that divides every address the operand is used at.
uint32_t alignmentOf(const Command &command, int buffer, DataType type, std::initializer_list<int64_t> elementOffsets) {
  int64_t bits = kBufferAlignment;
  if (size_t(buffer) < command.byteOffsets.size())
    bits |= command.byteOffsets[size_t(buffer)];
  for (int64_t offset : elementOffsets)
    bits |= offset * sizeOf(type);
  return uint32_t(bits & -bits);
}

class LtMatmul final : public DeviceMatmul {
public:
  explicit LtMatmul(LibraryContext::Implementation &library) : library(library) {}
  ~LtMatmul() override {
    if (preference)
      library.cublas.preferenceDestroy(preference);
    for (cublasLtMatrixLayout_t layout : {a, b, d})
      if (layout)
        library.cublas.layoutDestroy(layout);
    if (descriptor)
      library.cublas.descriptorDestroy(descriptor);
  }

  Status initialize(const Command &command, const MatmulMapping &theMapping, int64_t scratchBytes) {
    mapping = theMapping;
    const bool wide = mapping.d.type == DataType::F64;
    ZOPT_CUBLAS(library, descriptorCreate, &descriptor, wide ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F, wide ? CUDA_R_64F : CUDA_R_32F);
    const int32_t transposeA = mapping.transposeA ? CUBLAS_OP_T : CUBLAS_OP_N, transposeB = mapping.transposeB ? CUBLAS_OP_T : CUBLAS_OP_N;
    ZOPT_RETURN_IF_FAILED(set(CUBLASLT_MATMUL_DESC_TRANSA, transposeA));
    ZOPT_RETURN_IF_FAILED(set(CUBLASLT_MATMUL_DESC_TRANSB, transposeB));
    ZOPT_RETURN_IF_FAILED(initializeEpilogue(command));
    ZOPT_RETURN_IF_FAILED(makeLayout(mapping.a, a));
    ZOPT_RETURN_IF_FAILED(makeLayout(mapping.b, b));
    ZOPT_RETURN_IF_FAILED(makeLayout(mapping.d, d));
    // The scale types are f64 and f32: the library reads the one that the descriptor names.
    alpha64 = command.scale;
    alpha32 = float(command.scale);
    adds = hasAddend(command);
    beta64 = beta32 = adds ? 1 : 0;
    alpha = wide ? static_cast<const void *>(&alpha64) : &alpha32;
    beta = wide ? static_cast<const void *>(&beta64) : &beta32;
    return chooseAlgorithm(command, scratchBytes);
  }

  Status run(CUstream stream, const CUdeviceptr *buffers) override {
    const DataType in = mapping.a.type, out = mapping.d.type;
    if (vector >= 0)
      ZOPT_RETURN_IF_FAILED(setPointer(CUBLASLT_MATMUL_DESC_BIAS_POINTER, buffers[vector], vectorSet));
    const CUdeviceptr lhs = buffers[Lhs], rhs = buffers[Rhs];
    const CUdeviceptr workspace = (buffers[Scratch] + kWorkspaceAlignment - 1) / kWorkspaceAlignment * kWorkspaceAlignment;
    const int64_t calls = mapping.calls();
    for (int64_t call = 0; call < calls; ++call) {
      int64_t offsetA = 0, offsetB = 0, offsetD = 0, offsetAux = 0, rest = call;
      for (const MatmulMapping::Loop &loop : mapping.loops) {
        int64_t index = rest % loop.size;
        rest /= loop.size;
        offsetA += index * loop.a;
        offsetB += index * loop.b;
        offsetD += index * loop.d;
        offsetAux += index * loop.aux;
      }
      if (mapping.aux.rows)
        ZOPT_RETURN_IF_FAILED(setPointer(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, buffers[Aux] + CUdeviceptr(offsetAux * sizeOf(out)), auxSet));
      auto *pointerA = reinterpret_cast<const void *>((mapping.direct ? lhs : rhs) + CUdeviceptr(offsetA * sizeOf(in)));
      auto *pointerB = reinterpret_cast<const void *>((mapping.direct ? rhs : lhs) + CUdeviceptr(offsetB * sizeOf(in)));
      auto *pointerC = reinterpret_cast<const void *>(buffers[adds ? Addend : Out] + CUdeviceptr(offsetD * sizeOf(out)));
      auto *pointerD = reinterpret_cast<void *>(buffers[Out] + CUdeviceptr(offsetD * sizeOf(out)));
      ZOPT_CUBLAS(library, matmul, library.cublasHandle, descriptor, alpha, pointerA, a, pointerB, b, beta, pointerC, d, pointerD, d, &chosen.algo, usable ? reinterpret_cast<void *>(workspace) : nullptr, size_t(usable), stream);
    }
    return success();
  }

  int64_t candidates() const override { return found; }
  int64_t plannedCandidates() const override { return planned; }
  int64_t workspaceBytes() const override { return int64_t(chosen.workspaceSize); }

private:
  template <typename Value>
  Status set(cublasLtMatmulDescAttributes_t attribute, const Value &value) {
    ZOPT_CUBLAS(library, descriptorSet, descriptor, attribute, &value, sizeof value);
    return success();
  }

  /// Addresses rarely change from run to run, so they are set only when they do.
  Status setPointer(cublasLtMatmulDescAttributes_t attribute, CUdeviceptr pointer, CUdeviceptr &current) {
    if (pointer == current)
      return success();
    current = pointer;
    return set(attribute, reinterpret_cast<void *>(pointer));
  }

  Status initializeEpilogue(const Command &command) {
    ZOPT_RETURN_IF_FAILED(set(CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t(libraryEpilogue(mapping.epilogue))));
    vector = vectorBuffer(mapping.epilogue);
    // The search for algorithms reads how these pointers are aligned, and nothing else.
    if (vector >= 0) {
      ZOPT_RETURN_IF_FAILED(set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, int32_t(libraryType(mapping.d.type))));
      ZOPT_RETURN_IF_FAILED(setPointer(CUBLASLT_MATMUL_DESC_BIAS_POINTER, alignmentOf(command, vector, mapping.d.type, {}), vectorSet));
    }
    if (mapping.aux.rows) {
      int64_t step = 0;
      for (const MatmulMapping::Loop &loop : mapping.loops)
        step |= loop.aux;
      ZOPT_RETURN_IF_FAILED(set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, mapping.aux.pitch));
      if (mapping.batch > 1)
        ZOPT_RETURN_IF_FAILED(set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, mapping.aux.batchStride));
      ZOPT_RETURN_IF_FAILED(setPointer(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, alignmentOf(command, Aux, mapping.aux.type, {step}), auxSet));
    }
    return success();
  }

  Status makeLayout(const LibraryMatrix &matrix, cublasLtMatrixLayout_t &layout) {
    ZOPT_CUBLAS(library, layoutCreate, &layout, libraryType(matrix.type), uint64_t(matrix.rows), uint64_t(matrix.columns), matrix.pitch);
    if (mapping.batch > 1) {
      const int32_t count = int32_t(mapping.batch);
      ZOPT_CUBLAS(library, layoutSet, layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count);
      ZOPT_CUBLAS(library, layoutSet, layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &matrix.batchStride, sizeof matrix.batchStride);
    }
    return success();
  }

  Status prefer(cublasLtMatmulPreferenceAttributes_t attribute, const void *value, size_t size) {
    ZOPT_CUBLAS(library, preferenceSet, preference, attribute, value, size);
    return success();
  }

  Status chooseAlgorithm(const Command &command, int64_t scratchBytes) {
    usable = std::max<int64_t>(0, scratchBytes - (kWorkspaceAlignment - kBufferAlignment));
    ZOPT_CUBLAS(library, preferenceCreate, &preference);
    const uint64_t limit = uint64_t(usable);
    ZOPT_RETURN_IF_FAILED(prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &limit, sizeof limit));
    // Partial sums may be added in fp32 by a second pass over the workspace, but not with atomics, whose order varies, nor rounded to the type of out.
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    ZOPT_RETURN_IF_FAILED(prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions));
    int64_t stepA = 0, stepB = 0, stepD = 0;
    for (const MatmulMapping::Loop &loop : mapping.loops) {
      stepA |= loop.a;
      stepB |= loop.b;
      stepD |= loop.d;
    }
    const uint32_t alignmentA = alignmentOf(command, mapping.direct ? Lhs : Rhs, mapping.a.type, {stepA});
    const uint32_t alignmentB = alignmentOf(command, mapping.direct ? Rhs : Lhs, mapping.b.type, {stepB});
    const uint32_t alignmentC = alignmentOf(command, adds ? Addend : Out, mapping.d.type, {stepD});
    const uint32_t alignmentD = alignmentOf(command, Out, mapping.d.type, {stepD});
    ZOPT_RETURN_IF_FAILED(prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &alignmentA, sizeof alignmentA));
    ZOPT_RETURN_IF_FAILED(prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &alignmentB, sizeof alignmentB));
    ZOPT_RETURN_IF_FAILED(prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &alignmentC, sizeof alignmentC));
    ZOPT_RETURN_IF_FAILED(prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &alignmentD, sizeof alignmentD));

    // What the library prefers with the planned workspace comes first. Behind it comes what it prefers without any, which it does not always offer with one, and which is sometimes faster. Plans without an
    // algorithm take the first one of all and need not ask again.
    std::vector<cublasLtMatmulHeuristicResult_t> results;
    cublasStatus_t status = query(results);
    planned = int64_t(results.size());
    if (command.algorithm >= 0 && limit > 0) {
      const uint64_t none = 0;
      ZOPT_RETURN_IF_FAILED(prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &none, sizeof none));
      query(results);
    }
    found = int64_t(results.size());
    if (found == 0)
      return callError("cublasLtMatmulAlgoGetHeuristic", concat("no algorithm for ", shapeText(command.lhs.shape), " x ", shapeText(command.rhs.shape), " ", nameOf(command.lhs.type), " -> ", nameOf(command.out.type), " with epilogue ", int(libraryEpilogue(mapping.epilogue)), " in ", usable, " bytes: ", library.cublas.getStatusString(status)));
    int64_t index = std::max<int64_t>(command.algorithm, 0);
    if (index >= found)
      return inputError("the plan wants algorithm ", index, " of a product, but the library has ", found);
    chosen = results[size_t(index)];
    return success();
  }

  /// Appends what the library offers under the preference as it is, less what is there already.
  cublasStatus_t query(std::vector<cublasLtMatmulHeuristicResult_t> &results) {
    cublasLtMatmulHeuristicResult_t offered[kMatmulCandidates];
    int returned = 0;
    cublasStatus_t status = library.cublas.heuristic(library.cublasHandle, descriptor, a, b, d, d, preference, kMatmulCandidates, offered, &returned);
    for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < returned; ++i) {
      // An index must mean the same algorithm whatever was refused before it, so failed ones are dropped before they are counted.
      bool wanted = offered[i].state == CUBLAS_STATUS_SUCCESS;
      for (const cublasLtMatmulHeuristicResult_t &known : results)
        wanted &= std::memcmp(&known.algo, &offered[i].algo, sizeof known.algo) != 0;
      if (wanted)
        results.push_back(offered[i]);
    }
    return status;
  }

  LibraryContext::Implementation &library;
  MatmulMapping mapping;
  cublasLtMatmulDesc_t descriptor = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  cublasLtMatmulHeuristicResult_t chosen = {};
  int64_t found = 0, planned = 0, usable = 0;
  int vector = -1;
  bool adds = false;
  CUdeviceptr vectorSet = 0, auxSet = 0;
  double alpha64 = 1, beta64 = 0;
  float alpha32 = 1, beta32 = 0;
  const void *alpha = nullptr, *beta = nullptr;
};

} // namespace

Result<std::unique_ptr<DeviceMatmul>> createMatmul(LibraryContext &context, const Command &command, int64_t scratchBytes) {
  Result<MatmulMapping> mapping = mapMatmul(command);
  if (mapping.failed())
    return mapping.getStatus();
  auto matmul = std::make_unique<LtMatmul>(context.get());
  ZOPT_RETURN_IF_FAILED(matmul->initialize(command, *mapping, scratchBytes));
  return std::unique_ptr<DeviceMatmul>(std::move(matmul));
}

} // namespace zopt::runtime::cuda
