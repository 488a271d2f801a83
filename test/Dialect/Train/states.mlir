// RUN: zopt %s --verify-roundtrip | FileCheck %s

// CHECK: train.weight_file @weights0 {fingerprint = "xxh3:90ab12cd34ef5678", path = "model.onnx", size = 749120 : i64}
train.weight_file @weights0 {path = "model.onnx", size = 749120 : i64, fingerprint = "xxh3:90ab12cd34ef5678"}
// CHECK: train.state @w : tensor<4x2xf32> {init = #train.weight<@weights0, 1024, 32, f32>, role = #train.role<parameter>, source_name = "fc.weight", source_permutation = array<i64: 1, 0>, tied = ["v"], trained}
train.state @w : tensor<4x2xf32> {role = #train.role<parameter>, trained, init = #train.weight<@weights0, 1024, 32, f32>, source_name = "fc.weight", source_permutation = array<i64: 1, 0>, tied = ["v"]}
// A master in another type than the file's: bytes are counted in the file's.
// CHECK: train.state @h : tensor<4xf32> {init = #train.weight<@weights0, 0, 8, bf16>, no_decay, role = #train.role<parameter>}
train.state @h : tensor<4xf32> {role = #train.role<parameter>, init = #train.weight<@weights0, 0, 8, bf16>, no_decay}
// CHECK: train.state @w.momentum : tensor<4x2xf32> {init = 0.000000e+00 : f32, role = #train.role<optimizer>}
train.state @w.momentum : tensor<4x2xf32> {role = #train.role<optimizer>, init = 0.0 : f32}
// CHECK: train.state @lr : tensor<f32> {role = #train.role<scalar>}
train.state @lr : tensor<f32> {role = #train.role<scalar>}
// CHECK: train.state @table : tensor<2xi64> {init = 3 : i64, role = #train.role<buffer>}
train.state @table : tensor<2xi64> {role = #train.role<buffer>, init = 3 : i64}

// CHECK: train.optimizer @sgd slots ["momentum"] {
// CHECK: ^bb0(%{{.*}}: f32, %{{.*}}: f32, %{{.*}}: f32, %{{.*}}: f32, %{{.*}}: f32, %{{.*}}: f32):
// CHECK: train.yield %{{.*}}, %{{.*}} : f32, f32
train.optimizer @sgd slots ["momentum"] {
^bb0(%p: f32, %g: f32, %m: f32, %lr: f32, %step: f32, %decay: f32):
  %0 = arith.mulf %lr, %g : f32
  %1 = arith.subf %p, %0 : f32
  train.yield %1, %m : f32, f32
}

// CHECK-LABEL: func.func @step
func.func @step(%dw: tensor<4x2xbf16>) {
  // The compute type may differ from the state's.
  // CHECK: train.read_state @w : tensor<4x2xbf16>
  %w = train.read_state @w : tensor<4x2xbf16>
  // CHECK: %[[LR:.*]] = train.read_state @lr : tensor<f32>
  %lr = train.read_state @lr : tensor<f32>
  // CHECK: train.accumulate @w, %{{.*}} : tensor<4x2xbf16>
  train.accumulate @w, %dw : tensor<4x2xbf16>
  // CHECK: train.accumulate @lr, %[[LR]] : tensor<f32>
  train.accumulate @lr, %lr : tensor<f32>
  // CHECK: train.backward %[[LR]] seed %[[LR]] : tensor<f32>
  train.backward %lr seed %lr : tensor<f32>
  // CHECK: %[[NORM:.*]] = train.gradient_norm : tensor<f32>
  %norm = train.gradient_norm : tensor<f32>
  // CHECK: train.update @w using @sgd scale %[[NORM]] lr %[[LR]] step %[[LR]] finite %[[LR]] decay 1.000000e-02 : tensor<f32>
  train.update @w using @sgd scale %norm lr %lr step %lr finite %lr decay 1.0e-2 : tensor<f32>
  // CHECK: train.write_state @lr, %[[NORM]] : tensor<f32>
  train.write_state @lr, %norm : tensor<f32>
  return
}

// CHECK-LABEL: func.func @constants
func.func @constants() {
  // CHECK: train.constant dense<[1.000000e+00, 2.000000e+00]> : tensor<2xf32> : tensor<2xf32>
  %0 = train.constant dense<[1.0, 2.0]> : tensor<2xf32> : tensor<2xf32>
  // A splat may be of any size.
  // CHECK: train.constant dense<7> : tensor<4096x4096xi64> : tensor<4096x4096xi64>
  %1 = train.constant dense<7> : tensor<4096x4096xi64> : tensor<4096x4096xi64>
  // CHECK: train.iota 1 {start = 2 : i64, step = -1 : i64} : tensor<2x3xi64>
  %2 = train.iota 1 {start = 2 : i64, step = -1 : i64} : tensor<2x3xi64>
  // CHECK: train.iota 0 : tensor<3xf32>
  %3 = train.iota 0 : tensor<3xf32>
  return
}
