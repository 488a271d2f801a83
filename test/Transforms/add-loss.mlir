// RUN: zopt %s --zopt-add-loss --split-input-file | FileCheck %s
// RUN: zopt %s --zopt-add-loss=loss-average=micro-batch --split-input-file | FileCheck %s --check-prefix=MICRO
// RUN: zopt %s --pass-pipeline='builtin.module(zopt-add-loss{loss=mse labels=target})' --split-input-file | FileCheck %s --check-prefix=MSE
// RUN: zopt %s --zopt-add-loss=loss=l1 --split-input-file | FileCheck %s --check-prefix=L1
// RUN: zopt %s --zopt-add-loss=loss=bce_with_logits --split-input-file | FileCheck %s --check-prefix=BCE
// RUN: zopt %s --pass-pipeline='builtin.module(zopt-add-loss{class-axis=1 ignore-index=-1 label-smoothing=0.1})' --split-input-file | FileCheck %s --check-prefix=AXIS
// RUN: zopt %s --zopt-add-loss=loss=output:total --split-input-file | FileCheck %s --check-prefix=OUTPUT

// The loss is a sum over label positions; the seed makes the gradient that of the mean over the global batch.
// CHECK: module attributes {train.label_positions = 8 : i64, train.level = "forward", train.loss_average = "global"}
// CHECK: train.state @zopt.loss_sum : tensor<f32> {init = 0.000000e+00 : f32, role = #train.role<scalar>}
// CHECK: train.state @zopt.count : tensor<f32> {init = 0.000000e+00 : f32, role = #train.role<scalar>}
// CHECK: func.func @micro_step(%{{.*}}: tensor<2x4x3xf32> {train.name = "x"}, %[[LABELS:[a-z0-9]*]]: tensor<2x4xi64> {train.ignore_index = -100 : i64, train.label, train.limit = 3 : i64, train.name = "labels"}) {
// CHECK: %[[LOSS:.*]], %[[COUNT:.*]], %{{.*}} = train.cross_entropy %[[Y:.*]], %[[LABELS]] {train.loss} : tensor<2x4x3xf32>, tensor<2x4xi64> -> tensor<f32>, tensor<2x4xf32>
// CHECK: %[[N:.*]] = train.constant dense<8.000000e+00>
// CHECK: train.accumulate @zopt.loss_sum, %[[LOSS]]
// CHECK: train.accumulate @zopt.count, %[[COUNT]]
// CHECK: %[[WORLD:.*]] = zero.world_size
// CHECK: %[[STEPS:.*]] = zero.accum_steps
// CHECK: %[[PER_MICRO:.*]] = train.mul %[[N]], %[[WORLD]]
// CHECK: %[[TOTAL:.*]] = train.mul %[[PER_MICRO]], %[[STEPS]]
// CHECK: %[[ONE:.*]] = train.constant dense<1.000000e+00>
// CHECK: %[[SEED:.*]] = train.div %[[ONE]], %[[TOTAL]]
// CHECK: train.backward %[[LOSS]] seed %[[SEED]]
// CHECK-NEXT: return
// CHECK-NOT: @forward

// The mean of micro-batch means: each is divided by its own count, which may be 0.
// MICRO-NOT: train.label_positions
// MICRO: train.loss_average = "micro-batch"
// MICRO: %[[LOSS:.*]], %[[COUNT:.*]], %{{.*}} = train.cross_entropy
// MICRO: %[[OWN:.*]] = train.max %[[COUNT]], %{{.*}}
// MICRO: %[[MEAN:.*]] = train.div %[[LOSS]], %[[OWN]]
// MICRO: train.accumulate @zopt.loss_sum, %[[MEAN]]
// MICRO: train.accumulate @zopt.count, %[[COUNT]]
// MICRO: train.mul %[[OWN]], %{{.*}}

// Elementwise losses: nothing can be ignored, so there is nothing to correct for.
// MSE-NOT: train.label_positions
// MSE: func.func @micro_step(%{{.*}}, %[[T:[a-z0-9]*]]: tensor<2x4x3xf32> {train.label, train.name = "target"})
// MSE: %[[D:.*]] = train.sub %{{.*}}, %[[T]]
// MSE: %[[D2:.*]] = train.mul %[[D]], %[[D]]
// MSE: %[[SUM:.*]] = train.reduce_sum %[[D2]] [0, 1, 2]
// MSE: %[[N:.*]] = train.constant dense<2.400000e+01>
// MSE: train.accumulate @zopt.loss_sum, %[[SUM]]
// MSE: train.accumulate @zopt.count, %[[N]]

// L1: %[[D:.*]] = train.sub
// L1: %[[ABS:.*]] = train.abs %[[D]]
// L1: train.reduce_sum %[[ABS]] [0, 1, 2]

// BCE: func.func @micro_step(%{{.*}}, %[[T:[a-z0-9]*]]: tensor<2x4x3xf32> {train.label
// BCE: %[[SOFTPLUS:.*]] = train.softplus %[[Y:.*]] {train.loss}
// BCE: %[[XY:.*]] = train.mul %[[Y]], %[[T]]
// BCE: %[[EACH:.*]] = train.sub %[[SOFTPLUS]], %[[XY]]
// BCE: train.reduce_sum %[[EACH]] [0, 1, 2]

// AXIS: module attributes {train.label_positions = 6 : i64
// AXIS: %[[LABELS:[a-z0-9]*]]: tensor<2x3xi64> {train.ignore_index = -1 : i64, train.label, train.limit = 4 : i64, train.name = "labels"}
// AXIS: %[[T:.*]] = train.transpose %{{.*}} [0, 2, 1] {train.loss} : tensor<2x4x3xf32> -> tensor<2x3x4xf32>
// AXIS: train.cross_entropy %[[T]], %[[LABELS]] {ignore_index = -1 : i64, label_smoothing = 1.000000e-01 : f64, train.loss}

// The graph's own loss is a mean already; its tail of single elements belongs to the loss.
// OUTPUT: func.func @micro_step(%{{.*}}: tensor<2x4x3xf32> {train.name = "x"}) {
// OUTPUT: %[[Y:.*]] = train.mul %{{.*}}, %{{.*}} : tensor<2x4x3xf32>, tensor<3xf32> -> tensor<2x4x3xf32>
// OUTPUT: %[[MEAN:.*]] = train.reduce_mean %[[Y]] [0, 1, 2] {keepdims, train.loss}
// OUTPUT: %[[LOSS:.*]] = train.reshape %[[MEAN]] {train.loss} : tensor<1x1x1xf32> -> tensor<f32>
// OUTPUT: train.accumulate @zopt.loss_sum, %[[LOSS]]
// OUTPUT: train.backward %[[LOSS]]
module attributes {train.level = "forward"} {
  train.state @w : tensor<3xf32> {role = #train.role<parameter>, trained}
  func.func @forward(%x: tensor<2x4x3xf32> {train.name = "x"}) -> (tensor<2x4x3xf32> {train.name = "logits"}, tensor<1x1x1xf32> {train.name = "total"}) {
    %w = train.read_state @w : tensor<3xf32>
    %y = train.mul %x, %w : tensor<2x4x3xf32>, tensor<3xf32> -> tensor<2x4x3xf32>
    %m = train.reduce_mean %y [0, 1, 2] {keepdims} : tensor<2x4x3xf32> -> tensor<1x1x1xf32>
    return %y, %m : tensor<2x4x3xf32>, tensor<1x1x1xf32>
  }
}
