// RUN: zopt %s --zopt-assign-placement="bucket-bytes=1100" | FileCheck %s

// 512 bytes are taken when two of 512 come that multiply one value: they begin a bucket together, where @up alone would have.
// CHECK: zero.bucket @bucket0 {{.*}} segments = [#zero.segment<@first, 0, 128>]
// CHECK: zero.bucket @bucket1 {{.*}} segments = [#zero.segment<@gate, 0, 128>, #zero.segment<@up, 128, 128>]
// More than a bucket of them is split.
// CHECK: zero.bucket @bucket2 {{.*}} segments = [#zero.segment<@a, 0, 128>, #zero.segment<@b, 128, 128>]
// CHECK: zero.bucket @bucket3 {{.*}} segments = [#zero.segment<@c, 0, 128>]

module attributes {train.level = "forward", train.mode = "forward"} {
  train.state @first : tensor<8x16xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @gate : tensor<16x8xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @up : tensor<16x8xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @a : tensor<8x16xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @b : tensor<8x16xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @c : tensor<8x16xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  func.func @forward(%x: tensor<2x8xf32>) -> tensor<2x16xf32> {
    %first = train.read_state @first : tensor<8x16xf32>
    %gate = train.read_state @gate : tensor<16x8xf32>
    %up = train.read_state @up : tensor<16x8xf32>
    %a = train.read_state @a : tensor<8x16xf32>
    %b = train.read_state @b : tensor<8x16xf32>
    %c = train.read_state @c : tensor<8x16xf32>
    %0 = train.matmul %x, %first : tensor<2x8xf32>, tensor<8x16xf32> -> tensor<2x16xf32>
    %1 = train.matmul %0, %gate : tensor<2x16xf32>, tensor<16x8xf32> -> tensor<2x8xf32>
    %2 = train.matmul %0, %up : tensor<2x16xf32>, tensor<16x8xf32> -> tensor<2x8xf32>
    %3 = train.mul %1, %2 : tensor<2x8xf32>, tensor<2x8xf32> -> tensor<2x8xf32>
    %4 = train.matmul %3, %a : tensor<2x8xf32>, tensor<8x16xf32> -> tensor<2x16xf32>
    %5 = train.matmul %3, %b : tensor<2x8xf32>, tensor<8x16xf32> -> tensor<2x16xf32>
    %6 = train.matmul %3, %c : tensor<2x8xf32>, tensor<8x16xf32> -> tensor<2x16xf32>
    %7 = train.add %4, %5 : tensor<2x16xf32>, tensor<2x16xf32> -> tensor<2x16xf32>
    %8 = train.add %7, %6 : tensor<2x16xf32>, tensor<2x16xf32> -> tensor<2x16xf32>
    return %8 : tensor<2x16xf32>
  }
}
