// A scale of 4 KB stands between a matrix of 4 MB and one of 32 MB.
// RUN: zopt %s --pass-pipeline="builtin.module(zopt-assign-placement{stage=3 bucket-bytes=1500},zopt-materialize-collectives,zopt-assign-residuals,zopt-specialize{world-size=2},zopt-convert-zero-to-plan{threads=1},zopt-verify-plan)" -o %t.mlir
// RUN: FileCheck %s --check-prefix=WIDE --input-file=%t.mlir
// RUN: zopt %s --pass-pipeline="builtin.module(zopt-assign-placement{stage=3 bucket-bytes=1500},zopt-materialize-collectives,zopt-assign-residuals,zopt-specialize{world-size=2},zopt-convert-zero-to-plan{threads=1 hide-bytes=-1},zopt-verify-plan)" -o %t.narrow.mlir
// RUN: FileCheck %s --check-prefix=NARROW --input-file=%t.narrow.mlir
// The arena is what it was.
// RUN: grep plan.arena %t.mlir > %t.arena
// RUN: grep plan.arena %t.narrow.mlir | cmp - %t.arena
// With 128 rows the reduction of the 32 MB is the peak itself: no product fits beside it. The gather has room.
// RUN: sed 's/1536/128/g' %s > %t.few.mlir
// RUN: zopt %t.few.mlir --pass-pipeline="builtin.module(zopt-assign-placement{stage=3 bucket-bytes=1500},zopt-materialize-collectives,zopt-assign-residuals,zopt-specialize{world-size=2},zopt-convert-zero-to-plan{threads=1},zopt-verify-plan)" -o - | FileCheck %s --check-prefix=FEW
// With 512 rows there are bytes enough for it to be under way until the product, but no place: packed, the arena would be larger.
// RUN: sed 's/1536/512/g' %s > %t.holes.mlir
// RUN: zopt %t.holes.mlir --pass-pipeline="builtin.module(zopt-assign-placement{stage=3 bucket-bytes=1500},zopt-materialize-collectives,zopt-assign-residuals,zopt-specialize{world-size=2},zopt-convert-zero-to-plan{threads=1},zopt-verify-plan)" -o - | FileCheck %s --check-prefix=HOLES
// What starts no gather early moves none.
// RUN: zopt %s --pass-pipeline="builtin.module(zopt-assign-placement{stage=3 bucket-bytes=1500},zopt-materialize-collectives,zopt-assign-residuals,zopt-specialize{world-size=2},zopt-convert-zero-to-plan{threads=1 prefetch=false},zopt-verify-plan)" -o - | FileCheck %s --check-prefix=LATE

// The scale's gather makes way: the matrix of 32 MB is gathered beside the first product. Gathers start in the order of their use.
// WIDE-LABEL: plan.sequence @micro_step
// WIDE: plan.wait 0
// WIDE: plan.all_gather 1 @bucket1.parameters {{.*}} bytes_per_rank 2048
// WIDE: plan.all_gather 2 @bucket2.parameters {{.*}} bytes_per_rank 16777216
// WIDE: plan.matmul @x.value
// WIDE: plan.wait 1
// WIDE: plan.wait 2
// Its gradient is waited for behind the last product, and so is the scale's, which comes behind it in the stream.
// WIDE: plan.reduce_scatter 3 {{.*}} into @bucket2.gradient
// WIDE-NOT: plan.wait 3
// WIDE: plan.reduce_scatter 4 {{.*}} into @bucket1.gradient
// WIDE-NOT: plan.wait {{[34]}}
// WIDE: plan.matmul {{.*}} x @x.value
// WIDE: plan.wait 3
// WIDE-NEXT: plan.wait 4
// WIDE-NEXT: plan.reduce_scatter 6

// NARROW-LABEL: plan.sequence @micro_step
// NARROW: plan.matmul @x.value
// NARROW-NEXT: plan.wait 1
// NARROW-NEXT: plan.all_gather 2
// NARROW: plan.wait 3
// NARROW-NEXT: plan.reduce_scatter 4
// NARROW: plan.matmul {{.*}} x @x.value

// FEW-LABEL: plan.sequence @micro_step
// FEW: plan.all_gather 2
// FEW: plan.matmul @x.value
// FEW: plan.wait 3
// FEW: plan.matmul {{.*}} x @x.value

// HOLES-LABEL: plan.sequence @micro_step
// HOLES: plan.all_gather 2
// HOLES: plan.matmul @x.value
// HOLES: plan.wait 3
// HOLES-NEXT: plan.reduce_scatter 4

// LATE-LABEL: plan.sequence @micro_step
// LATE: plan.matmul @x.value
// LATE: plan.all_gather 2
// LATE-NEXT: plan.wait 2
// LATE: plan.matmul {{.*}} x @x.value
// LATE: plan.wait 3

module attributes {train.level = "step", train.model = "model.onnx", train.micro_batch = 1536 : i64, train.accum_steps = 1 : i64, train.loss_average = "global", train.learning_rate = 1.0e-3 : f64, train.mode = "train"} {
  train.weight_file @weights0 {path = "model.onnx", size = 40000000, fingerprint = ""}
  train.state @up.weight : tensor<1024x1024xf32> {role = #train.role<parameter>, trained, init = #train.weight<@weights0, 0, 4194304, f32>}
  train.state @scale : tensor<1024xf32> {role = #train.role<parameter>, trained, init = #train.weight<@weights0, 4194304, 4096, f32>}
  train.state @head.weight : tensor<8192x1024xf32> {role = #train.role<parameter>, trained, init = #train.weight<@weights0, 4198400, 33554432, f32>}
  train.state @zopt.loss_sum : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.state @zopt.count : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.state @zopt.lr : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.state @zopt.step : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.state @up.weight.momentum : tensor<1024x1024xf32> {role = #train.role<optimizer>, init = 0.0 : f32}
  train.state @scale.momentum : tensor<1024xf32> {role = #train.role<optimizer>, init = 0.0 : f32}
  train.state @head.weight.momentum : tensor<8192x1024xf32> {role = #train.role<optimizer>, init = 0.0 : f32}
  train.optimizer @sgd slots ["momentum"] {
  ^bb0(%p: f32, %g: f32, %m: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p, %m : f32, f32
  }
  func.func @micro_step(%x: tensor<1536x1024xf32> {train.name = "x"}, %labels: tensor<1536xi64> {train.name = "labels", train.label, train.limit = 8192 : i64, train.ignore_index = -100 : i64}) {
    %w1 = train.read_state @up.weight : tensor<1024x1024xf32>
    %h = train.matmul %x, %w1 {transpose_rhs} : tensor<1536x1024xf32>, tensor<1024x1024xf32> -> tensor<1536x1024xf32>
    %g = train.read_state @scale : tensor<1024xf32>
    %s = train.mul %h, %g : tensor<1536x1024xf32>, tensor<1024xf32> -> tensor<1536x1024xf32>
    %w2 = train.read_state @head.weight : tensor<8192x1024xf32>
    %y = train.matmul %s, %w2 {transpose_rhs} : tensor<1536x1024xf32>, tensor<8192x1024xf32> -> tensor<1536x8192xf32>
    %loss, %count, %lse = train.cross_entropy %y, %labels : tensor<1536x8192xf32>, tensor<1536xi64> -> tensor<f32>, tensor<1536xf32>
    train.accumulate @zopt.loss_sum, %loss : tensor<f32>
    train.accumulate @zopt.count, %count : tensor<f32>
    %seed = train.constant dense<1.0> : tensor<f32> : tensor<f32>
    train.backward %loss seed %seed : tensor<f32>
    %dy = train.cross_entropy_grad %y, %labels, %lse, %seed : tensor<1536x8192xf32>, tensor<1536xi64>, tensor<1536xf32>, tensor<f32> -> tensor<1536x8192xf32>
    %ds = train.matmul %dy, %w2 : tensor<1536x8192xf32>, tensor<8192x1024xf32> -> tensor<1536x1024xf32>
    %dw2 = train.matmul %dy, %s {transpose_lhs} : tensor<1536x8192xf32>, tensor<1536x1024xf32> -> tensor<8192x1024xf32>
    train.accumulate @head.weight, %dw2 : tensor<8192x1024xf32>
    %dsh = train.mul %ds, %h : tensor<1536x1024xf32>, tensor<1536x1024xf32> -> tensor<1536x1024xf32>
    %dg = train.reduce_sum %dsh [0] : tensor<1536x1024xf32> -> tensor<1024xf32>
    train.accumulate @scale, %dg : tensor<1024xf32>
    %dh = train.mul %ds, %g : tensor<1536x1024xf32>, tensor<1024xf32> -> tensor<1536x1024xf32>
    %dw1 = train.matmul %dh, %x {transpose_lhs} : tensor<1536x1024xf32>, tensor<1536x1024xf32> -> tensor<1024x1024xf32>
    train.accumulate @up.weight, %dw1 : tensor<1024x1024xf32>
    return
  }
  func.func @apply_step() {
    %count = train.read_state @zopt.count : tensor<f32>
    %norm = train.gradient_norm : tensor<f32>
    %finite = train.constant dense<1.0> : tensor<f32> : tensor<f32>
    %scale = train.mul %norm, %count : tensor<f32>, tensor<f32> -> tensor<f32>
    %lr = train.read_state @zopt.lr : tensor<f32>
    %step = train.read_state @zopt.step : tensor<f32>
    train.update @up.weight using @sgd scale %scale lr %lr step %step finite %finite decay 0.0 : tensor<f32>
    train.update @scale using @sgd scale %scale lr %lr step %step finite %finite decay 0.0 : tensor<f32>
    train.update @head.weight using @sgd scale %scale lr %lr step %step finite %finite decay 0.0 : tensor<f32>
    return
  }
}
