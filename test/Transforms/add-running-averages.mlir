// RUN: zopt %s --zopt-set-batch --zopt-add-running-averages | FileCheck %s
// RUN: zopt %s --zopt-set-batch="mode=forward" --zopt-add-running-averages | FileCheck %s --check-prefix=FORWARD
// RUN: zopt %s --zopt-set-batch --zopt-add-running-averages --zopt-add-loss="loss=mse" --zopt-autodiff --zopt-add-optimizer="optimizer=sgd" --zopt-verify-step | FileCheck %s --check-prefix=STEP

// A micro-step adds what it moves the average by, seen from where those before have moved it.
// CHECK: train.state @r.movement : tensor<3xf32> {init = 0.000000e+00 : f32, role = #train.role<gradient>}
// CHECK: %[[MEAN:.*]], %{{.*}} = train.batch_statistics
// CHECK: %[[AVERAGE:.*]] = train.read_state @r :
// CHECK: %[[MOVED:.*]] = train.read_state @r.movement
// CHECK: %[[NOW:.*]] = train.add %[[AVERAGE]], %[[MOVED]]
// CHECK: %[[DISTANCE:.*]] = train.sub %[[MEAN]], %[[NOW]]
// CHECK: %[[SHARE:.*]] = train.constant dense<1.000000e-01>
// CHECK: %[[GROWTH:.*]] = train.mul %[[DISTANCE]], %[[SHARE]]
// CHECK: train.accumulate @r.movement, %[[GROWTH]]
// FORWARD-NOT: movement
// FORWARD-NOT: train.running_average

// It takes effect where the step is applied.
// STEP: func.func @apply_step
// STEP: %[[PROCEED:.*]] = train.and
// STEP: %[[MOVEMENT:.*]] = train.read_state @r.movement
// STEP: %[[RANKS:.*]] = zero.world_size
// STEP: %[[OLD:.*]] = train.read_state @r :
// STEP: %[[BY:.*]] = train.div %[[MOVEMENT]], %[[RANKS]]
// STEP: %[[NEW:.*]] = train.add %[[OLD]], %[[BY]]
// STEP: %[[CHOSEN:.*]] = train.select %[[PROCEED]], %[[NEW]], %[[OLD]]
// STEP: train.write_state @r, %[[CHOSEN]]
module attributes {train.level = "forward", train.micro_batch = 4 : i64} {
  train.state @g : tensor<3xf32> {role = #train.role<parameter>, trained, init = 1.0 : f32}
  train.state @r : tensor<3xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  func.func @forward(%x: tensor<4x3xf32> {train.name = "x"}) -> (tensor<4x3xf32> {train.name = "y"}) {
    %g = train.read_state @g : tensor<3xf32>
    %mean, %variance = train.batch_statistics %x : tensor<4x3xf32> -> tensor<3xf32>
    train.running_average @r, %mean {momentum = 0.9 : f64} : tensor<3xf32>
    %y = train.batch_norm %x mean %mean variance %variance gamma %g beta %g {epsilon = 1.0e-5 : f64, training} : tensor<4x3xf32>, tensor<3xf32>, tensor<3xf32>
    return %y : tensor<4x3xf32>
  }
}
