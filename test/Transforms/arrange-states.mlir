// RUN: zopt %s --split-input-file --pass-pipeline='builtin.module(func.func(zopt-arrange-states))' | FileCheck %s

// One micro-step a step: what it reads of the sum is 0, and the sum is set.
module attributes {train.accum_steps = 1 : i64} {
  train.state @average : tensor<4xf32> {init = 0.0 : f32, role = #train.role<buffer>}
  train.state @movement : tensor<4xf32> {init = 0.0 : f32, role = #train.role<gradient>}
  // CHECK-LABEL: func.func @micro_step
  // CHECK-NOT: read_state @movement
  // CHECK: %[[ZERO:.*]] = train.constant dense<0.000000e+00>
  // CHECK: train.add %{{.*}}, %[[ZERO]]
  // CHECK: train.backward
  // CHECK: train.write_state @movement, %{{.*}} : tensor<4xf32>
  // CHECK-NEXT: return
  func.func @micro_step(%x: tensor<4xf32>, %loss: tensor<f32>) {
    %0 = train.read_state @average : tensor<4xf32>
    %1 = train.read_state @movement : tensor<4xf32>
    %2 = train.add %0, %1 : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    %3 = train.sub %x, %2 : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    train.accumulate @movement, %3 : tensor<4xf32>
    train.backward %loss seed %loss : tensor<f32>
    return
  }
  // What is set once, behind all reading, is read first and set last.
  // CHECK-LABEL: func.func @apply_step
  // CHECK-DAG: %[[A:.*]] = train.read_state @average
  // CHECK: %[[Y:.*]] = train.mul %{{.*}}, %{{.*}} : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
  // CHECK: train.mul %[[Y]], %[[Y]]
  // CHECK: train.write_state @average
  // CHECK-NEXT: return
  func.func @apply_step(%x: tensor<4xf32>) -> tensor<4xf32> {
    %0 = train.mul %x, %x : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    %1 = train.read_state @average : tensor<4xf32>
    %2 = train.add %1, %0 : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    train.write_state @average, %2 : tensor<4xf32>
    %3 = train.mul %0, %0 : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    return %3 : tensor<4xf32>
  }
}

// -----

// Several: reading, adding and setting. A state that is read behind stays as it is.
module attributes {train.accum_steps = 3 : i64} {
  train.state @sum : tensor<4xf32> {init = 0.0 : f32, role = #train.role<gradient>}
  train.state @seen : tensor<4xf32> {init = 0.0 : f32, role = #train.role<gradient>}
  // CHECK-LABEL: func.func @micro_step
  // CHECK: %[[OLD:.*]] = train.read_state @sum
  // CHECK: train.accumulate @seen, %arg0
  // CHECK: %[[NEW:.*]] = train.add %[[OLD]], %arg0
  // CHECK: train.write_state @sum, %[[NEW]] {accumulates}
  func.func @micro_step(%x: tensor<4xf32>, %loss: tensor<f32>) -> tensor<4xf32> {
    train.accumulate @seen, %x : tensor<4xf32>
    %0 = train.read_state @seen : tensor<4xf32>
    train.accumulate @sum, %x : tensor<4xf32>
    train.backward %loss seed %loss : tensor<f32>
    return %0 : tensor<4xf32>
  }
}
