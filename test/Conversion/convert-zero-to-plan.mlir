// RUN: zopt %s --pass-pipeline="builtin.module(zopt-assign-placement{stage=0 bucket-bytes=1500},zopt-materialize-collectives,zopt-assign-residuals,zopt-specialize{world-size=2},zopt-convert-zero-to-plan{threads=1},zopt-verify-plan)" | FileCheck %s --check-prefixes=CHECK,STAGE0
// RUN: zopt %s --pass-pipeline="builtin.module(zopt-assign-placement{stage=1 bucket-bytes=1500},zopt-materialize-collectives,zopt-assign-residuals,zopt-specialize{world-size=2},zopt-convert-zero-to-plan{threads=1},zopt-verify-plan)" | FileCheck %s --check-prefixes=CHECK,STAGE1
// RUN: zopt %s --pass-pipeline="builtin.module(zopt-assign-placement{stage=2 bucket-bytes=1500},zopt-materialize-collectives,zopt-assign-residuals,zopt-specialize{world-size=2},zopt-convert-zero-to-plan{threads=1},zopt-verify-plan)" | FileCheck %s --check-prefixes=CHECK,STAGE2
// RUN: zopt %s --pass-pipeline="builtin.module(zopt-assign-placement{stage=3 bucket-bytes=1500},zopt-materialize-collectives,zopt-assign-residuals,zopt-specialize{world-size=2},zopt-convert-zero-to-plan{threads=1},zopt-verify-plan)" | FileCheck %s --check-prefixes=CHECK,STAGE3
// Padding: 2048 and 522 elements in slices of whole 128-element blocks. Each plan passes the verifier.
// RUN: zopt %s --pass-pipeline="builtin.module(zopt-assign-placement{stage=3 bucket-bytes=1500},zopt-materialize-collectives,zopt-assign-residuals,zopt-specialize{world-size=1},zopt-convert-zero-to-plan{threads=1},zopt-verify-plan)" | FileCheck %s --check-prefix=WORLD1
// RUN: zopt %s --pass-pipeline="builtin.module(zopt-assign-placement{stage=3 bucket-bytes=1500},zopt-materialize-collectives,zopt-assign-residuals,zopt-specialize{world-size=3},zopt-convert-zero-to-plan{threads=1},zopt-verify-plan)" | FileCheck %s --check-prefix=WORLD3
// RUN: zopt %s --pass-pipeline="builtin.module(zopt-assign-placement{stage=3 bucket-bytes=1500},zopt-materialize-collectives,zopt-assign-residuals,zopt-specialize{world-size=4},zopt-convert-zero-to-plan{threads=1},zopt-verify-plan)" | FileCheck %s --check-prefix=WORLD4
// RUN: zopt %s --pass-pipeline="builtin.module(zopt-assign-placement{stage=3 bucket-bytes=1500},zopt-materialize-collectives,zopt-assign-residuals,zopt-specialize{world-size=8},zopt-convert-zero-to-plan{threads=1},zopt-verify-plan)" | FileCheck %s --check-prefix=WORLD8
// A final plan reads back as what it was.
// RUN: zopt %s --pass-pipeline="builtin.module(zopt-assign-placement{stage=3 bucket-bytes=1500},zopt-materialize-collectives,zopt-assign-residuals,zopt-specialize{world-size=2},zopt-convert-zero-to-plan{threads=1})" -o %t.mlir
// RUN: zopt %t.mlir --zopt-verify-plan -o %t.again.mlir
// RUN: cmp %t.mlir %t.again.mlir

// CHECK: plan.peak_by_class = {
// CHECK-SAME: train.level = "final"

// STAGE0: plan.placed_bucket @bucket0 padded 2048 slice 1024 parameters @bucket0.parameters {gradient = @bucket0.gradient, gradient_type = f32, gradient_whole, slots = [@bucket0.momentum]}
// STAGE1: plan.placed_bucket @bucket0 padded 2048 slice 1024 parameters @bucket0.parameters {gradient = @bucket0.gradient.slice, gradient_type = f32, slots = [@bucket0.momentum]}
// STAGE2: plan.placed_bucket @bucket0 padded 2048 slice 1024 parameters @bucket0.parameters {gradient = @bucket0.gradient, gradient_type = f32, slots = [@bucket0.momentum]}
// STAGE3: plan.placed_bucket @bucket0 padded 2048 slice 1024 parameters @bucket0.parameters {gradient = @bucket0.gradient, gradient_type = f32, slots = [@bucket0.momentum]}
// CHECK: plan.input @image input from @image.value : tensor<4x64xf32>
// CHECK: plan.input @labels label from @labels.value : tensor<4xi64> {ignore_index = -100 : i64, limit = 10 : i64}

// Bytes of the placements, in order: the same whole or halved.
// STAGE0: @bucket0.parameters in @device at 0 bytes 8192 for parameters {persistent}
// STAGE0: @bucket0.momentum in @device at 8192 bytes 8192 for optimizer {persistent}
// STAGE0: @bucket0.gradient in @device at 16384 bytes 8192 for gradients {persistent}
// STAGE1: @bucket0.parameters.slice in @device at 0 bytes 4096 for parameters {persistent, rank_stride = 4096 : i64}
// STAGE1: @bucket0.momentum in @device at 8192 bytes 4096 for optimizer {persistent}
// STAGE1: @bucket0.gradient.slice in @device at 12288 bytes 4096 for gradients {persistent, rank_stride = 4096 : i64}
// STAGE2: @bucket0.gradient in @device at 12288 bytes 4096 for gradients {persistent}
// STAGE3: @bucket0.parameters in @device at 0 bytes 4096 for parameters {persistent}
// STAGE3: @bucket0.momentum in @device at 4096 bytes 4096 for optimizer {persistent}
// STAGE3: @bucket0.gradient in @device at 8192 bytes 4096 for gradients {persistent}

// CHECK-LABEL: plan.sequence @micro_step
// CHECK: plan.zero @zopt.count.value at 0 bytes 4 {first_micro_step}
// CHECK: plan.zero @zopt.loss_sum.value at 0 bytes 4 {first_micro_step}
// The product reads both buckets at once; backward begins with the one that forward ended with, which is there.
// STAGE3: plan.all_gather 0 @bucket0.parameters into @[[G0:.*]] bytes_per_rank 4096 label "gather bucket0"
// STAGE3: plan.wait 0
// STAGE3: plan.all_gather 1 @bucket1.parameters into @[[G1:.*]] bytes_per_rank 1536 label "gather bucket1"
// STAGE3: plan.wait 1
// STAGE3-NOT: plan.all_gather
// STAGE3: plan.launch @cross_entropy_grad
// Gradients are written where they are reduced from; what lies between segments, and with it what is near, is zeroed before the first of them; the wait is the next start.
// STAGE0: plan.zero @bucket1.gradient at 128 bytes 2944
// STAGE0-NEXT: plan.matmul {{.*}} -> @bucket1.gradient
// STAGE0: plan.all_reduce 0 @bucket0.gradient workspace @{{.*}} elements_per_rank 1024 f32 label "reduce bucket0"
// STAGE0: plan.wait 0
// STAGE0-NEXT: plan.all_reduce 1 @bucket1.gradient
// STAGE1: plan.reduce_scatter 0 @bucket0.gradient into @bucket0.gradient.slice workspace @{{.*}} elements_per_rank 1024 f32 -> f32 label "reduce bucket0"
// STAGE2: plan.reduce_scatter 0 @[[B0:.*]] into @bucket0.gradient workspace
// STAGE3: plan.reduce_scatter 2 @[[B0:.*]] into @bucket0.gradient workspace

// CHECK-LABEL: plan.sequence @apply_step
// CHECK: plan.all_reduce_scalars
// CHECK: plan.gradient_norm [@bucket0, @bucket1]
// CHECK: plan.update @bucket0 {{.*}} decays [1.000000e-02]
// STAGE0-NOT: plan.all_gather
// STAGE1: plan.all_gather {{.*}} @bucket0.parameters.slice into @bucket0.parameters bytes_per_rank 4096 label "publish bucket0"
// STAGE2: plan.all_gather {{.*}} @bucket0.parameters.slice into @bucket0.parameters bytes_per_rank 4096 label "publish bucket0"
// STAGE3-NOT: plan.all_gather
// CHECK: plan.update @bucket1 {{.*}} decays [0.000000e+00, 1.000000e-02, 0.000000e+00]

// A rank alone communicates nothing.
// WORLD1: padded 2048 slice 2048
// WORLD1: padded 640 slice 640
// WORLD1-NOT: plan.all_gather
// WORLD1-NOT: plan.reduce_scatter
// WORLD3: padded 2304 slice 768
// WORLD3: padded 768 slice 256
// WORLD4: padded 2048 slice 512
// WORLD4: padded 1024 slice 256
// WORLD8: padded 2048 slice 256
// WORLD8: padded 1024 slice 128

module attributes {train.level = "step", train.model = "model.onnx", train.micro_batch = 4 : i64, train.accum_steps = 1 : i64, train.loss_average = "global", train.learning_rate = 1.0e-3 : f64, train.mode = "train"} {
  train.weight_file @weights0 {path = "model.onnx", size = 20000, fingerprint = ""}
  train.state @fc1.weight : tensor<32x64xf32> {role = #train.role<parameter>, trained, init = #train.weight<@weights0, 512, 8192, f32>}
  train.state @fc1.bias : tensor<32xf32> {role = #train.role<parameter>, trained, init = #train.weight<@weights0, 8704, 128, f32>}
  train.state @fc2.weight : tensor<10x32xf32> {role = #train.role<parameter>, trained, init = #train.weight<@weights0, 8832, 1280, f32>}
  train.state @fc2.bias : tensor<10xf32> {role = #train.role<parameter>, trained, init = #train.weight<@weights0, 10112, 40, f32>}
  train.state @zopt.loss_sum : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.state @zopt.count : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.state @zopt.lr : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.state @zopt.step : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.state @zopt.loss : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.state @zopt.norm : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.state @zopt.finite : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.state @fc1.weight.momentum : tensor<32x64xf32> {role = #train.role<optimizer>, init = 0.0 : f32}
  train.state @fc1.bias.momentum : tensor<32xf32> {role = #train.role<optimizer>, init = 0.0 : f32}
  train.state @fc2.weight.momentum : tensor<10x32xf32> {role = #train.role<optimizer>, init = 0.0 : f32}
  train.state @fc2.bias.momentum : tensor<10xf32> {role = #train.role<optimizer>, init = 0.0 : f32}
  train.optimizer @sgd slots ["momentum"] {
  ^bb0(%p: f32, %g: f32, %m: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p, %m : f32, f32
  }
  func.func @micro_step(%x: tensor<4x64xf32> {train.name = "image"}, %labels: tensor<4xi64> {train.name = "labels", train.label, train.limit = 10 : i64, train.ignore_index = -100 : i64}) {
    %w1 = train.read_state @fc1.weight : tensor<32x64xf32>
    %b1 = train.read_state @fc1.bias : tensor<32xf32>
    %h = train.matmul %x, %w1 bias %b1 : tensor<32xf32> {transpose_rhs} : tensor<4x64xf32>, tensor<32x64xf32> -> tensor<4x32xf32>
    %a = train.relu %h : tensor<4x32xf32>
    %w2 = train.read_state @fc2.weight : tensor<10x32xf32>
    %b2 = train.read_state @fc2.bias : tensor<10xf32>
    %y = train.matmul %a, %w2 bias %b2 : tensor<10xf32> {transpose_rhs} : tensor<4x32xf32>, tensor<10x32xf32> -> tensor<4x10xf32>
    %loss, %count, %lse = train.cross_entropy %y, %labels : tensor<4x10xf32>, tensor<4xi64> -> tensor<f32>, tensor<4xf32>
    train.accumulate @zopt.loss_sum, %loss : tensor<f32>
    train.accumulate @zopt.count, %count : tensor<f32>
    %n = train.constant dense<4.0> : tensor<f32> : tensor<f32>
    %world = zero.world_size : tensor<f32>
    %steps = zero.accum_steps : tensor<f32>
    %nw = train.mul %n, %world : tensor<f32>, tensor<f32> -> tensor<f32>
    %nws = train.mul %nw, %steps : tensor<f32>, tensor<f32> -> tensor<f32>
    %seed = train.reciprocal %nws : tensor<f32>
    train.backward %loss seed %seed : tensor<f32>
    %dy = train.cross_entropy_grad %y, %labels, %lse, %seed : tensor<4x10xf32>, tensor<4xi64>, tensor<4xf32>, tensor<f32> -> tensor<4x10xf32>
    %dw2 = train.matmul %dy, %a {transpose_lhs} : tensor<4x10xf32>, tensor<4x32xf32> -> tensor<10x32xf32>
    %db2 = train.reduce_sum %dy [0] : tensor<4x10xf32> -> tensor<10xf32>
    train.accumulate @fc2.weight, %dw2 : tensor<10x32xf32>
    train.accumulate @fc2.bias, %db2 : tensor<10xf32>
    %da = train.matmul %dy, %w2 : tensor<4x10xf32>, tensor<10x32xf32> -> tensor<4x32xf32>
    %dh = train.relu_grad %a, %da : tensor<4x32xf32>
    %dw1 = train.matmul %dh, %x {transpose_lhs} : tensor<4x32xf32>, tensor<4x64xf32> -> tensor<32x64xf32>
    %db1 = train.reduce_sum %dh [0] : tensor<4x32xf32> -> tensor<32xf32>
    train.accumulate @fc1.weight, %dw1 : tensor<32x64xf32>
    train.accumulate @fc1.bias, %db1 : tensor<32xf32>
    return
  }
  func.func @apply_step() {
    %loss_sum = train.read_state @zopt.loss_sum : tensor<f32>
    %count = train.read_state @zopt.count : tensor<f32>
    %norm = train.gradient_norm : tensor<f32>
    %mean = train.div %loss_sum, %count : tensor<f32>, tensor<f32> -> tensor<f32>
    %finite = train.constant dense<1.0> : tensor<f32> : tensor<f32>
    %scale = train.mul %norm, %count : tensor<f32>, tensor<f32> -> tensor<f32>
    %lr = train.read_state @zopt.lr : tensor<f32>
    %step = train.read_state @zopt.step : tensor<f32>
    train.update @fc1.weight using @sgd scale %scale lr %lr step %step finite %finite decay 1.0e-02 : tensor<f32>
    train.update @fc1.bias using @sgd scale %scale lr %lr step %step finite %finite decay 0.0 : tensor<f32>
    train.update @fc2.weight using @sgd scale %scale lr %lr step %step finite %finite decay 1.0e-02 : tensor<f32>
    train.update @fc2.bias using @sgd scale %scale lr %lr step %step finite %finite decay 0.0 : tensor<f32>
    train.write_state @zopt.loss, %mean : tensor<f32>
    train.write_state @zopt.norm, %norm : tensor<f32>
    train.write_state @zopt.finite, %finite : tensor<f32>
    return
  }
}
