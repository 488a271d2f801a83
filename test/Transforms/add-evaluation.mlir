// RUN: zopt %s --pass-pipeline='builtin.module(zopt-add-loss,zopt-add-evaluation)' --split-input-file | FileCheck %s
// RUN: zopt %s --pass-pipeline='builtin.module(zopt-add-loss{loss=mse},zopt-add-evaluation)' --split-input-file | FileCheck %s --check-prefix=MSE
// RUN: zopt %s --pass-pipeline='builtin.module(zopt-add-loss{loss-average=micro-batch},zopt-add-evaluation,zopt-mixed-precision{compute=f16},zopt-autodiff,zopt-add-optimizer,zopt-verify-step)' --split-input-file | FileCheck %s --check-prefix=STEP

// Forward and loss on the same inputs: what counts is given back, no state is touched, and there is no backward.
// CHECK: func.func @micro_step
// CHECK: train.backward
// CHECK: func.func @eval_step(%{{.*}}: tensor<4x3xf32> {train.name = "x"}, %[[LABELS:[a-z0-9]*]]: tensor<4xi64> {train.ignore_index = -100 : i64, train.label, train.limit = 5 : i64, train.name = "labels"})
// CHECK-SAME: -> (tensor<f32> {train.name = "zopt.eval_loss_sum"}, tensor<f32> {train.name = "zopt.eval_count"}, tensor<f32> {train.name = "zopt.eval_correct"})
// CHECK: %[[Y:.*]] = train.matmul
// CHECK-NEXT: %[[LOSS:.*]], %[[COUNT:.*]], %{{.*}} = train.cross_entropy %[[Y]], %[[LABELS]] {train.loss}
// CHECK-NEXT: %[[CORRECT:.*]] = train.count_correct %[[Y]], %[[LABELS]] {train.loss} : tensor<4x5xf32>, tensor<4xi64> -> tensor<f32>
// CHECK-NEXT: return %[[LOSS]], %[[COUNT]], %[[CORRECT]]
// CHECK-NOT: train.backward

// Other losses have no labels to be right about.
// MSE: func.func @eval_step(%{{.*}}) -> (tensor<f32> {train.name = "zopt.eval_loss_sum"}, tensor<f32> {train.name = "zopt.eval_count"})
// MSE: %[[SUM:.*]] = train.reduce_sum
// MSE: %[[N:.*]] = train.constant dense<2.000000e+01>
// MSE: return %[[SUM]], %[[N]]

// Sums, whatever training averages, and without the scale of fp16; behind what runs in a step.
// STEP: func.func @micro_step
// STEP: func.func @apply_step
// STEP: func.func @eval_step
// STEP: %[[Y:.*]] = train.matmul {{.*}} -> tensor<4x5xf16>
// STEP-NEXT: %[[LOSS:.*]], %[[COUNT:.*]], %{{.*}} = train.cross_entropy %[[Y]]
// STEP-NEXT: %[[CORRECT:.*]] = train.count_correct %[[Y]], %{{.*}} : tensor<4x5xf16>, tensor<4xi64> -> tensor<f32>
// STEP-NEXT: return %[[LOSS]], %[[COUNT]], %[[CORRECT]]
module attributes {train.level = "forward"} {
  train.state @w : tensor<3x5xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  func.func @forward(%x: tensor<4x3xf32> {train.name = "x"}) -> (tensor<4x5xf32> {train.name = "logits"}) {
    %w = train.read_state @w : tensor<3x5xf32>
    %y = train.matmul %x, %w : tensor<4x3xf32>, tensor<3x5xf32> -> tensor<4x5xf32>
    return %y : tensor<4x5xf32>
  }
}
