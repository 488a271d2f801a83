//===- PlanPasses.td - from the explicit level to a final plan ---*- tablegen -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_CONVERSION_PLANPASSES_TD
#define ZOPT_CONVERSION_PLANPASSES_TD

include "mlir/Pass/PassBase.td"

def ConvertZeroToPlan : Pass<"zopt-convert-zero-to-plan", "mlir::ModuleOp"> {
  let summary = "Write down what one rank executes";
  let description = [{
    Expects the explicit level, specialized (`train.world_size`); leaves the final level: the `plan` ops that the plan dialect describes, kernels, and the states, buckets and optimizers of the portable plan.

    - Movement becomes views where the reader accepts strides, copies elsewhere; gradients and operands of a concatenation are written where they are needed by who produces them. What a
      gradient adds up is added up in its bucket, in place, where the bucket is persistent or holds that gradient alone.
    - Commands keep the program's order. A gather starts when the one before it is complete and older ones are free (`prefetch`), a reduction is waited for when the next one starts, a publication at the
      end of the step.
    - Storages that are never live together share bytes of one arena. `plan.peak_by_class` on the module says what is live at the peak.

    A remark counts the copies that are left only to change a layout, where there are any or the module has convolutions.

    Never changes what an op computes. Numerics: bitwise for a target and a number of threads; a product's order of sums is the library's.
  }];
  let options = [
    Option<"worldSize", "world-size", "int64_t", "0", "Number of ranks, which is the one that the module is specialized for; 0: that one">,
    Option<"target", "target", "std::string", "\"cpu\"", "What the plan is for: cpu or cuda">,
    Option<"chip", "chip", "std::string", "\"sm_90\"", "Of cuda: the oldest chip that runs the plan, sm_80 or sm_90">,
    Option<"threads", "threads", "int64_t", "0", "Threads a rank; 0: cores / ranks, at least 1">,
    Option<"prefetch", "prefetch", "bool", "true", "Start gathers one bucket ahead">,
    Option<"totalsApart", "totals-apart", "bool", "false", "Sum the partial results of columns by launches of their own on GPUs: the same bits, for comparisons">,
    Option<"keepCollectives", "keep-collectives", "bool", "false", "Place and exchange on one rank as on several: gathers and reductions over one rank stay">,
  ];
  let dependentDialects = ["::zopt::plan::PlanDialect", "::mlir::arith::ArithDialect", "::mlir::cf::ControlFlowDialect", "::mlir::gpu::GPUDialect", "::mlir::index::IndexDialect", "::mlir::math::MathDialect",
    "::mlir::memref::MemRefDialect", "::mlir::scf::SCFDialect", "::mlir::vector::VectorDialect"];
}

def VerifyPlan : Pass<"zopt-verify-plan", "mlir::ModuleOp"> {
  let summary = "Check a final plan without running it";
  let description = [{
    Expects the final level; changes nothing. A plan that passes cannot deadlock, race or read a dead buffer. One error, with the values: a buffer outside its arena or across a persistent one; a state or bucket
    without a place of its size; an access outside a buffer; bytes read that another buffer has overwritten or nothing has written; a command that touches what a collective in flight writes, or writes
    what it reads; a collective that is not waited for once; a kernel with other arguments, element types or writes than its launch says; a bucket that is not updated, counted in the norm or published once.
  }];
}

def EmitKernels : Pass<"zopt-emit-kernels", "mlir::ModuleOp"> {
  let summary = "Write the machine code of a plan's kernels, to look at it";
  let description = [{
    Expects a plan.target and kernels for it; changes nothing. Writes what runs: a shared object, or PTX for an NVIDIA GPU. An entry is called `zopt_<kernel>`; how it is launched is in its plan.kernel
    (`block_threads`, `block_iterations`).
  }];
  let options = [Option<"output", "output", "std::string", "\"kernels.out\"", "The file">];
}

#endif // ZOPT_CONVERSION_PLANPASSES_TD
