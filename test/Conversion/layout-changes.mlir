// What is left of layout changes is counted in one line: here images go channels last once, before the first convolution. With one channel there is nothing to change. CUDA's libraries want weights so, too.

// RUN: split-file %s %t
// RUN: zopt %t/three.mlir --mode=forward --nproc=1 --target=cpu -o %t.plan 2>&1 | FileCheck %s --check-prefix=THREE
// THREE: remark: 1 copy is left that only changes a layout, 1536 bytes: image
// RUN: zopt %t/three.mlir --mode=forward --nproc=1 --target=cuda -o %t.plan 2>&1 | FileCheck %s --check-prefix=CUDA
// CUDA: remark: 3 copies are left that only change a layout, 2544 bytes
// RUN: zopt %t/one.mlir --mode=forward --nproc=1 --target=cpu -o %t.plan 2>&1 | FileCheck %s --check-prefix=ONE
// ONE: remark: no copies are left that only change a layout

// Where nothing convolves and nothing is left, nothing is said.
// RUN: zopt %models/mlp-tiny/model.onnx --micro-batch=2 --nproc=1 --target=cpu -o %t.plan 2>&1 | FileCheck %s --check-prefix=NONE
// NONE-NOT: layout

//--- three.mlir
module attributes {train.level = "forward", train.micro_batch = 2 : i64} {
  train.state @w : tensor<4x3x3x3xf32> {init = 1.0 : f32, role = #train.role<parameter>, trained}
  train.state @v : tensor<4x4x3x3xf32> {init = 1.0 : f32, role = #train.role<parameter>, trained}
  func.func @forward(%x: tensor<2x3x8x8xf32> {train.name = "image"} loc("image")) -> (tensor<2x4xf32> {train.name = "y"}) {
    %w = train.read_state @w : tensor<4x3x3x3xf32>
    %v = train.read_state @v : tensor<4x4x3x3xf32>
    %0 = train.conv %x, %w strides [1, 1] dilations [1, 1] pads [1, 1, 1, 1] : tensor<2x3x8x8xf32>, tensor<4x3x3x3xf32> -> tensor<2x4x8x8xf32>
    %1 = train.relu %0 : tensor<2x4x8x8xf32>
    %2 = train.conv %1, %v strides [1, 1] dilations [1, 1] pads [1, 1, 1, 1] : tensor<2x4x8x8xf32>, tensor<4x4x3x3xf32> -> tensor<2x4x8x8xf32>
    %3 = train.add %2, %1 : tensor<2x4x8x8xf32>, tensor<2x4x8x8xf32> -> tensor<2x4x8x8xf32>
    %4 = train.reduce_mean %3 [2, 3] : tensor<2x4x8x8xf32> -> tensor<2x4xf32>
    return %4 : tensor<2x4xf32>
  }
}

//--- one.mlir
module attributes {train.level = "forward", train.micro_batch = 2 : i64} {
  train.state @w : tensor<4x1x3x3xf32> {init = 1.0 : f32, role = #train.role<parameter>, trained}
  func.func @forward(%x: tensor<2x1x8x8xf32> {train.name = "image"}) -> (tensor<2x4xf32> {train.name = "y"}) {
    %w = train.read_state @w : tensor<4x1x3x3xf32>
    %0 = train.conv %x, %w strides [1, 1] dilations [1, 1] pads [1, 1, 1, 1] : tensor<2x1x8x8xf32>, tensor<4x1x3x3xf32> -> tensor<2x4x8x8xf32>
    %1 = train.reduce_max %0 [2, 3] : tensor<2x4x8x8xf32> -> tensor<2x4xf32>
    return %1 : tensor<2x4xf32>
  }
}
