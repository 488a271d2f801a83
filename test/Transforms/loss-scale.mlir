// RUN: zopt %s --pass-pipeline='builtin.module(zopt-mixed-precision{compute=f16 loss-scale-window=50 loss-scale-min=2},zopt-add-optimizer)' | FileCheck %s
// RUN: zopt %s --pass-pipeline='builtin.module(zopt-mixed-precision{compute=f16 loss-scale-consecutive-hysteresis=1},zopt-add-optimizer)' | FileCheck %s --check-prefix=CONSECUTIVE
// RUN: zopt %s --pass-pipeline='builtin.module(zopt-mixed-precision{compute=f16 loss-scale=128},zopt-add-optimizer)' | FileCheck %s --check-prefix=STATIC
// RUN: zopt %s --pass-pipeline='builtin.module(zopt-mixed-precision{compute=f16},zopt-add-optimizer{optimizer=none})' | FileCheck %s --check-prefix=GRADIENT
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-mixed-precision{compute=f16 loss-scale=-1})' 2>&1 | FileCheck %s --check-prefix=VALUE
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-mixed-precision{compute=f16 loss-scale-init-power=65})' 2>&1 | FileCheck %s --check-prefix=POWER
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-mixed-precision{compute=f16 loss-scale-hysteresis=0})' 2>&1 | FileCheck %s --check-prefix=FEW
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-mixed-precision{compute=f16 loss-scale-min=100000})' 2>&1 | FileCheck %s --check-prefix=LEAST

// The scale multiplies the seed.
// CHECK: train.loss_scale = {hysteresis = 2 : i64, minimum = 2.000000e+00 : f64, window = 50 : i64}
// CHECK: train.state @zopt.loss_scale : tensor<f32> {init = 6.553600e+04 : f32
// CHECK: train.state @zopt.stable_steps : tensor<f32> {init = 0.000000e+00 : f32
// CHECK: train.state @zopt.hysteresis : tensor<f32> {init = 2.000000e+00 : f32
// CHECK: train.state @zopt.loss_scale_exhausted : tensor<f32> {init = 0.000000e+00 : f32
// CHECK: func.func @micro_step
// CHECK: %[[SEED:.*]] = train.constant dense<5.000000e-01>
// CHECK: %[[S:.*]] = train.read_state @zopt.loss_scale : tensor<f32>
// CHECK: %[[SCALED:.*]] = train.mul %[[SEED]], %[[S]]
// CHECK: train.backward %{{.*}} seed %[[SCALED]]

// And leaves the norm, the exported gradients and the update.
// CHECK: func.func @apply_step
// CHECK: %[[NORM0:.*]] = train.gradient_norm
// CHECK: %[[SCALE:.*]] = train.read_state @zopt.loss_scale
// CHECK: %[[INVERSE:.*]] = train.div %{{.*}}, %[[SCALE]]
// CHECK: %[[NORM:.*]] = train.mul %[[NORM0]], %[[INVERSE]]
// CHECK: %[[FINITE:.*]] = train.compare eq
// CHECK: train.write_state @zopt.norm, %[[NORM]]
// CHECK: train.write_state @zopt.gradient_scale, %[[INVERSE]]
// CHECK-DAG: %[[STABLE:.*]] = train.read_state @zopt.stable_steps
// CHECK-DAG: %[[HYSTERESIS:.*]] = train.read_state @zopt.hysteresis
// CHECK: %[[FALLS:.*]] = train.compare le %[[HYSTERESIS]], %{{.*}}
// CHECK: %[[HALF:.*]] = train.div %[[SCALE]], %{{.*}}
// CHECK: %[[LOWER:.*]] = train.max %[[HALF]], %{{.*}}
// CHECK: %[[OVERFLOWED:.*]] = train.select %[[FALLS]], %[[LOWER]], %[[SCALE]]
// CHECK: %[[GROWS:.*]] = train.compare ge %[[STABLE]], %{{.*}}
// CHECK: %[[TWICE:.*]] = train.mul %[[SCALE]], %{{.*}}
// CHECK: %[[GROWN:.*]] = train.select %[[GROWS]], %[[TWICE]], %[[SCALE]]
// CHECK: %[[KEPT:.*]] = train.select %[[GROWS]], %{{.*}}, %[[HYSTERESIS]]
// CHECK: %[[NEXT:.*]] = train.select %[[FINITE]], %[[GROWN]], %[[OVERFLOWED]]
// CHECK: train.write_state @zopt.loss_scale, %[[NEXT]]
// CHECK: train.update @w {{.*}} scale

// CONSECUTIVE: train.loss_scale = {consecutive, hysteresis = 2 : i64
// CONSECUTIVE: %[[FULL:.*]] = train.constant dense<2.000000e+00>
// CONSECUTIVE: train.write_state @zopt.stable_steps
// CONSECUTIVE: %[[H:.*]] = train.select %{{.*}}, %{{.*}}, %{{.*}}
// CONSECUTIVE-NEXT: train.write_state @zopt.hysteresis, %[[H]]

// STATIC: train.loss_scale = {}
// STATIC: train.state @zopt.loss_scale : tensor<f32> {init = 1.280000e+02 : f32
// STATIC-NOT: zopt.stable_steps
// STATIC-NOT: train.write_state @zopt.loss_scale

// Where nothing is updated, the scale is not either.
// GRADIENT: train.write_state @zopt.gradient_scale
// GRADIENT-NOT: train.write_state

// VALUE: error: loss scale is '-1', expected dynamic or a positive number
// POWER: error: loss scale begins at 2 to the power of 65, expected 0 to 64
// FEW: error: loss scale has a hysteresis of 0 overflows, expected 1 to 16777216
// LEAST: error: least loss scale is 100000.00, expected more than 0 and at most the first, 65536.00
module attributes {train.level = "forward", train.loss_average = "global"} {
  train.state @w : tensor<4xf32> {role = #train.role<parameter>, trained}
  train.state @zopt.loss_sum : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.state @zopt.count : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  func.func @micro_step(%loss: tensor<f32> {train.label}) {
    %seed = train.constant dense<0.5> : tensor<f32> : tensor<f32>
    train.backward %loss seed %seed : tensor<f32>
    return
  }
}
