// RUN: zopt %s --zopt-synchronize-batch-norm | FileCheck %s

// The variance of all ranks: the mean of theirs and of the squared distances of their means.
// CHECK: %[[MEAN:.*]], %[[VARIANCE:.*]] = train.batch_statistics
// CHECK: %[[ALL:.*]] = train.mean_over_ranks %[[MEAN]]
// CHECK: %[[DISTANCE:.*]] = train.sub %[[MEAN]], %[[ALL]]
// CHECK: %[[SQUARE:.*]] = train.mul %[[DISTANCE]], %[[DISTANCE]]
// CHECK: %[[LOCAL:.*]] = train.add %[[VARIANCE]], %[[SQUARE]]
// CHECK: %[[TOTAL:.*]] = train.mean_over_ranks %[[LOCAL]]
// CHECK: train.running_average @r, %[[ALL]]
// CHECK: train.batch_norm %{{.*}} mean %[[ALL]] variance %[[TOTAL]] gamma %{{.*}} beta %{{.*}} {epsilon = 1.000000e-05 : f64, synchronized, training}
module attributes {train.level = "forward"} {
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
