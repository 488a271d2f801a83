// RUN: zopt %s --pass-pipeline="builtin.module(func.func(zopt-merge-products))" --split-input-file | FileCheck %s

// Query and value of one activation: one product for the gradient of y, one for both weights.
// CHECK-LABEL: func.func @projections
// CHECK: %[[WQ:.*]] = train.read_state @wq
// CHECK: %[[WV:.*]] = train.read_state @wv
// CHECK: %[[V:.*]] = train.neg %arg0
// CHECK: %[[Q:.*]] = train.neg %arg1
// CHECK: %[[V3:.*]] = train.reshape %[[V]]
// CHECK: %[[Q3:.*]] = train.reshape %[[Q]]
// CHECK: %[[X:.*]] = train.concat 2, %[[Q3]], %[[V3]] : {{.*}} -> tensor<64x128x12xbf16>
// CHECK: %[[FLAT:.*]] = train.reshape %[[X]] : tensor<64x128x12xbf16> -> tensor<8192x12xbf16>
// CHECK: %[[DW:.*]] = train.matmul %[[FLAT]], %arg2 {transpose_lhs} : {{.*}} -> tensor<12x8xbf16>
// CHECK: %[[DWQ:.*]] = train.slice %[[DW]] [0, 0] [1, 1] : {{.*}} -> tensor<8x8xbf16>
// CHECK: %[[DWV:.*]] = train.slice %[[DW]] [8, 0] [1, 1] : {{.*}} -> tensor<4x8xbf16>
// CHECK: %[[W:.*]] = train.concat 0, %[[WQ]], %[[WV]]
// CHECK: %[[DX:.*]] = train.matmul %[[X]], %[[W]] : tensor<64x128x12xbf16>, tensor<12x8xbf16> -> tensor<64x128x8xbf16>
// CHECK-NOT: train.matmul
// CHECK: return %[[DX]], %[[DWV]], %[[DWQ]]
module {
  train.state @wq : tensor<8x8xbf16> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @wv : tensor<4x8xbf16> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  func.func @projections(%v: tensor<64x128x2x2xbf16>, %q: tensor<64x128x2x4xbf16>, %y: tensor<8192x8xbf16>) -> (tensor<64x128x8xbf16>, tensor<4x8xbf16>, tensor<8x8xbf16>) {
    %wq = train.read_state @wq : tensor<8x8xbf16>
    %wv = train.read_state @wv : tensor<4x8xbf16>
    %dv = train.neg %v : tensor<64x128x2x2xbf16>
    %dq = train.neg %q : tensor<64x128x2x4xbf16>
    %v3 = train.reshape %dv : tensor<64x128x2x2xbf16> -> tensor<64x128x4xbf16>
    %a = train.matmul %v3, %wv : tensor<64x128x4xbf16>, tensor<4x8xbf16> -> tensor<64x128x8xbf16>
    %v2 = train.reshape %dv : tensor<64x128x2x2xbf16> -> tensor<8192x4xbf16>
    %dwv = train.matmul %v2, %y {transpose_lhs} : tensor<8192x4xbf16>, tensor<8192x8xbf16> -> tensor<4x8xbf16>
    %q3 = train.reshape %dq : tensor<64x128x2x4xbf16> -> tensor<64x128x8xbf16>
    %b = train.matmul %q3, %wq : tensor<64x128x8xbf16>, tensor<8x8xbf16> -> tensor<64x128x8xbf16>
    %q2 = train.reshape %dq : tensor<64x128x2x4xbf16> -> tensor<8192x8xbf16>
    %dwq = train.matmul %q2, %y {transpose_lhs} : tensor<8192x8xbf16>, tensor<8192x8xbf16> -> tensor<8x8xbf16>
    %dx = train.add %a, %b : tensor<64x128x8xbf16>, tensor<64x128x8xbf16> -> tensor<64x128x8xbf16>
    return %dx, %dwv, %dwq : tensor<64x128x8xbf16>, tensor<4x8xbf16>, tensor<8x8xbf16>
  }
}

// -----

// A sum that is written and read once more is less than four copies of the weights, or something else than products is added: apart.
// CHECK-LABEL: func.func @apart
// CHECK: train.matmul
// CHECK: train.matmul
// CHECK: train.add
// CHECK: train.matmul
// CHECK: train.add
// CHECK-NOT: train.concat
module {
  train.state @a : tensor<64x8xbf16> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<64x8xbf16> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  func.func @apart(%x: tensor<128x64xbf16>, %y: tensor<128x64xbf16>, %z: tensor<2048x64xbf16>, %r: tensor<2048x8xbf16>) -> (tensor<128x8xbf16>, tensor<2048x8xbf16>) {
    %a = train.read_state @a : tensor<64x8xbf16>
    %b = train.read_state @b : tensor<64x8xbf16>
    %dx = train.neg %x : tensor<128x64xbf16>
    %dy = train.neg %y : tensor<128x64xbf16>
    %1 = train.matmul %dx, %a : tensor<128x64xbf16>, tensor<64x8xbf16> -> tensor<128x8xbf16>
    %2 = train.matmul %dy, %b : tensor<128x64xbf16>, tensor<64x8xbf16> -> tensor<128x8xbf16>
    %3 = train.add %1, %2 : tensor<128x8xbf16>, tensor<128x8xbf16> -> tensor<128x8xbf16>
    %dz = train.neg %z : tensor<2048x64xbf16>
    %4 = train.matmul %dz, %a : tensor<2048x64xbf16>, tensor<64x8xbf16> -> tensor<2048x8xbf16>
    %5 = train.add %4, %r : tensor<2048x8xbf16>, tensor<2048x8xbf16> -> tensor<2048x8xbf16>
    return %3, %5 : tensor<128x8xbf16>, tensor<2048x8xbf16>
  }
}

// -----

// What the weight gradients read may be computed right before them, as recomputation does: it moves before the one product.
// CHECK-LABEL: func.func @recomputed
// CHECK: %[[Y:.*]] = train.exp %arg2 {train.recomputed}
// CHECK: train.concat 1, %{{.*}}, %{{.*}} : {{.*}} -> tensor<8192x12xbf16>
// CHECK-NEXT: train.matmul %{{.*}}, %[[Y]] {transpose_lhs} : {{.*}} -> tensor<12x8xbf16>
module {
  train.state @wq : tensor<8x8xbf16> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @wv : tensor<4x8xbf16> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  func.func @recomputed(%v: tensor<8192x4xbf16>, %q: tensor<8192x8xbf16>, %p: tensor<8192x8xbf16>) -> (tensor<8192x8xbf16>, tensor<4x8xbf16>, tensor<8x8xbf16>) {
    %wq = train.read_state @wq : tensor<8x8xbf16>
    %wv = train.read_state @wv : tensor<4x8xbf16>
    %dv = train.neg %v : tensor<8192x4xbf16>
    %dq = train.neg %q : tensor<8192x8xbf16>
    %a = train.matmul %dv, %wv : tensor<8192x4xbf16>, tensor<4x8xbf16> -> tensor<8192x8xbf16>
    %y = train.exp %p {train.recomputed} : tensor<8192x8xbf16>
    %dwv = train.matmul %dv, %y {transpose_lhs} : tensor<8192x4xbf16>, tensor<8192x8xbf16> -> tensor<4x8xbf16>
    %b = train.matmul %dq, %wq : tensor<8192x8xbf16>, tensor<8x8xbf16> -> tensor<8192x8xbf16>
    %dwq = train.matmul %dq, %y {transpose_lhs} : tensor<8192x8xbf16>, tensor<8192x8xbf16> -> tensor<8x8xbf16>
    %dx = train.add %a, %b : tensor<8192x8xbf16>, tensor<8192x8xbf16> -> tensor<8192x8xbf16>
    return %dx, %dwv, %dwq : tensor<8192x8xbf16>, tensor<4x8xbf16>, tensor<8x8xbf16>
  }
}

// -----

// Wide weights that are neighbours in a bucket are not copied; the first product waits for what the second multiplies.
// CHECK-LABEL: func.func @neighbours
// CHECK: %[[GATE:.*]] = train.exp %arg1
// CHECK: train.concat 1, %[[GATE]], %{{.*}} : {{.*}} -> tensor<64x256xbf16>
// CHECK-NEXT: train.matmul {{.*}} -> tensor<256x64xbf16>
// CHECK: train.matmul %{{.*}} : tensor<64x256xbf16>, tensor<256x64xbf16> -> tensor<64x64xbf16>
// CHECK-NOT: train.matmul
module {
  train.state @gate : tensor<128x64xbf16> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @up : tensor<128x64xbf16> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  zero.group @data
  zero.bucket @bucket0 on @data parameters replicated gradients replicated optimizer replicated compute bf16 gradient bf16 {frozen, segments = [#zero.segment<@gate, 0, 8192>, #zero.segment<@up, 8192, 8192>]}
  func.func @neighbours(%u: tensor<64x128xbf16>, %g: tensor<64x128xbf16>, %y: tensor<64x64xbf16>) -> (tensor<64x64xbf16>, tensor<128x64xbf16>, tensor<128x64xbf16>) {
    %wg = train.read_state @gate : tensor<128x64xbf16>
    %wu = train.read_state @up : tensor<128x64xbf16>
    %du = train.neg %u : tensor<64x128xbf16>
    %a = train.matmul %du, %wu : tensor<64x128xbf16>, tensor<128x64xbf16> -> tensor<64x64xbf16>
    %dwu = train.matmul %du, %y {transpose_lhs} : tensor<64x128xbf16>, tensor<64x64xbf16> -> tensor<128x64xbf16>
    %dg = train.exp %g : tensor<64x128xbf16>
    %b = train.matmul %dg, %wg : tensor<64x128xbf16>, tensor<128x64xbf16> -> tensor<64x64xbf16>
    %dwg = train.matmul %dg, %y {transpose_lhs} : tensor<64x128xbf16>, tensor<64x64xbf16> -> tensor<128x64xbf16>
    %dx = train.add %a, %b : tensor<64x64xbf16>, tensor<64x64xbf16> -> tensor<64x64xbf16>
    return %dx, %dwu, %dwg : tensor<64x64xbf16>, tensor<128x64xbf16>, tensor<128x64xbf16>
  }
}
