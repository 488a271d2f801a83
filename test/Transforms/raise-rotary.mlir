// RUN: zopt %s --zopt-raise-rotary | FileCheck %s

// transformers' Llama, torch.export: angles are joined with themselves, cos and sin are taken of both halves.
// CHECK-LABEL: func.func @llama
// CHECK-SAME: (%[[Q:.*]]: tensor<2x4x8x16xf32>, %[[K:.*]]: tensor<2x2x8x16xf32>, %[[F:.*]]: tensor<1x1x8xf32>)
// CHECK-NEXT: %[[P:.*]] = train.iota 1 : tensor<1x8x1xf32>
// CHECK-NEXT: %[[A:.*]] = train.mul %[[P]], %[[F]] : tensor<1x8x1xf32>, tensor<1x1x8xf32> -> tensor<1x8x8xf32>
// CHECK-NEXT: %[[C:.*]] = train.cos %[[A]] : tensor<1x8x8xf32>
// CHECK-NEXT: %[[S:.*]] = train.sin %[[A]] : tensor<1x8x8xf32>
// CHECK-NEXT: %[[C1:.*]] = train.reshape %[[C]] : tensor<1x8x8xf32> -> tensor<1x1x8x8xf32>
// CHECK-NEXT: %[[S1:.*]] = train.reshape %[[S]] : tensor<1x8x8xf32> -> tensor<1x1x8x8xf32>
// CHECK-NEXT: %[[RQ:.*]] = train.rotary %[[Q]], %[[C1]], %[[S1]] : tensor<2x4x8x16xf32>, tensor<1x1x8x8xf32>
// CHECK-NEXT: %[[RK:.*]] = train.rotary %[[K]], %[[C1]], %[[S1]] : tensor<2x2x8x16xf32>, tensor<1x1x8x8xf32>
// CHECK-NEXT: return %[[RQ]], %[[RK]]
func.func @llama(%q: tensor<2x4x8x16xf32>, %k: tensor<2x2x8x16xf32>, %frequencies: tensor<1x1x8xf32>) -> (tensor<2x4x8x16xf32>, tensor<2x2x8x16xf32>) {
  %position = train.iota 1 : tensor<1x8x1xf32>
  %half = train.mul %position, %frequencies : tensor<1x8x1xf32>, tensor<1x1x8xf32> -> tensor<1x8x8xf32>
  %angle = train.concat 2, %half, %half : tensor<1x8x8xf32>, tensor<1x8x8xf32> -> tensor<1x8x16xf32>
  %c0 = train.cos %angle : tensor<1x8x16xf32>
  %s0 = train.sin %angle : tensor<1x8x16xf32>
  %c = train.reshape %c0 : tensor<1x8x16xf32> -> tensor<1x1x8x16xf32>
  %s = train.reshape %s0 : tensor<1x8x16xf32> -> tensor<1x1x8x16xf32>
  %q0 = train.mul %q, %c : tensor<2x4x8x16xf32>, tensor<1x1x8x16xf32> -> tensor<2x4x8x16xf32>
  %q1 = train.slice %q [0, 0, 0, 0] [1, 1, 1, 1] : tensor<2x4x8x16xf32> -> tensor<2x4x8x8xf32>
  %q2 = train.slice %q [0, 0, 0, 8] [1, 1, 1, 1] : tensor<2x4x8x16xf32> -> tensor<2x4x8x8xf32>
  %qn = train.neg %q2 : tensor<2x4x8x8xf32>
  %qt = train.concat 3, %qn, %q1 : tensor<2x4x8x8xf32>, tensor<2x4x8x8xf32> -> tensor<2x4x8x16xf32>
  %q3 = train.mul %qt, %s : tensor<2x4x8x16xf32>, tensor<1x1x8x16xf32> -> tensor<2x4x8x16xf32>
  %q4 = train.add %q0, %q3 : tensor<2x4x8x16xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  %k0 = train.mul %c, %k : tensor<1x1x8x16xf32>, tensor<2x2x8x16xf32> -> tensor<2x2x8x16xf32>
  %k1 = train.slice %k [0, 0, 0, 0] [1, 1, 1, 1] : tensor<2x2x8x16xf32> -> tensor<2x2x8x8xf32>
  %k2 = train.slice %k [0, 0, 0, 8] [1, 1, 1, 1] : tensor<2x2x8x16xf32> -> tensor<2x2x8x8xf32>
  %kn = train.neg %k2 : tensor<2x2x8x8xf32>
  %kt = train.concat 3, %kn, %k1 : tensor<2x2x8x8xf32>, tensor<2x2x8x8xf32> -> tensor<2x2x8x16xf32>
  %k3 = train.mul %s, %kt : tensor<1x1x8x16xf32>, tensor<2x2x8x16xf32> -> tensor<2x2x8x16xf32>
  %k4 = train.add %k3, %k0 : tensor<2x2x8x16xf32>, tensor<2x2x8x16xf32> -> tensor<2x2x8x16xf32>
  return %q4, %k4 : tensor<2x4x8x16xf32>, tensor<2x2x8x16xf32>
}

// Tables that were folded to literals repeat, or do not.
// CHECK-LABEL: func.func @literals
// CHECK-DAG: %[[C:.*]] = train.constant dense<{{\[\[}}1.000000e+00, 2.000000e+00], [3.000000e+00, 4.000000e+00]]>
// CHECK-DAG: %[[S:.*]] = train.constant dense<5.000000e-01> : tensor<2x2xf32> : tensor<2x2xf32>
// CHECK: train.rotary %{{.*}}, %[[C]], %[[S]] : tensor<1x1x2x4xf32>, tensor<2x2xf32>
func.func @literals(%x: tensor<1x1x2x4xf32>) -> tensor<1x1x2x4xf32> {
  %c = train.constant dense<[[1.0, 2.0, 1.0, 2.0], [3.0, 4.0, 3.0, 4.0]]> : tensor<2x4xf32> : tensor<2x4xf32>
  %s = train.constant dense<0.5> : tensor<2x4xf32> : tensor<2x4xf32>
  %0 = train.mul %x, %c : tensor<1x1x2x4xf32>, tensor<2x4xf32> -> tensor<1x1x2x4xf32>
  %1 = train.slice %x [0, 0, 0, 0] [1, 1, 1, 1] : tensor<1x1x2x4xf32> -> tensor<1x1x2x2xf32>
  %2 = train.slice %x [0, 0, 0, 2] [1, 1, 1, 1] : tensor<1x1x2x4xf32> -> tensor<1x1x2x2xf32>
  %3 = train.neg %2 : tensor<1x1x2x2xf32>
  %4 = train.concat 3, %3, %1 : tensor<1x1x2x2xf32>, tensor<1x1x2x2xf32> -> tensor<1x1x2x4xf32>
  %5 = train.mul %4, %s : tensor<1x1x2x4xf32>, tensor<2x4xf32> -> tensor<1x1x2x4xf32>
  %6 = train.add %0, %5 : tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32> -> tensor<1x1x2x4xf32>
  return %6 : tensor<1x1x2x4xf32>
}

// CHECK-LABEL: func.func @no_rotary_of_different_halves
// CHECK-NOT: train.rotary
// CHECK: return
func.func @no_rotary_of_different_halves(%x: tensor<1x1x2x4xf32>) -> tensor<1x1x2x4xf32> {
  %c = train.constant dense<[[1.0, 2.0, 1.0, 2.0], [3.0, 4.0, 3.0, 5.0]]> : tensor<2x4xf32> : tensor<2x4xf32>
  %s = train.constant dense<0.5> : tensor<2x4xf32> : tensor<2x4xf32>
  %0 = train.mul %x, %c : tensor<1x1x2x4xf32>, tensor<2x4xf32> -> tensor<1x1x2x4xf32>
  %1 = train.slice %x [0, 0, 0, 0] [1, 1, 1, 1] : tensor<1x1x2x4xf32> -> tensor<1x1x2x2xf32>
  %2 = train.slice %x [0, 0, 0, 2] [1, 1, 1, 1] : tensor<1x1x2x4xf32> -> tensor<1x1x2x2xf32>
  %3 = train.neg %2 : tensor<1x1x2x2xf32>
  %4 = train.concat 3, %3, %1 : tensor<1x1x2x2xf32>, tensor<1x1x2x2xf32> -> tensor<1x1x2x4xf32>
  %5 = train.mul %4, %s : tensor<1x1x2x4xf32>, tensor<2x4xf32> -> tensor<1x1x2x4xf32>
  %6 = train.add %0, %5 : tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32> -> tensor<1x1x2x4xf32>
  return %6 : tensor<1x1x2x4xf32>
}

// Nothing is known of a table that comes from outside.
// CHECK-LABEL: func.func @no_rotary_by_table
// CHECK-NOT: train.rotary
// CHECK: return
func.func @no_rotary_by_table(%x: tensor<1x1x2x4xf32>, %c: tensor<2x4xf32>, %s: tensor<2x4xf32>) -> tensor<1x1x2x4xf32> {
  %0 = train.mul %x, %c : tensor<1x1x2x4xf32>, tensor<2x4xf32> -> tensor<1x1x2x4xf32>
  %1 = train.slice %x [0, 0, 0, 0] [1, 1, 1, 1] : tensor<1x1x2x4xf32> -> tensor<1x1x2x2xf32>
  %2 = train.slice %x [0, 0, 0, 2] [1, 1, 1, 1] : tensor<1x1x2x4xf32> -> tensor<1x1x2x2xf32>
  %3 = train.neg %2 : tensor<1x1x2x2xf32>
  %4 = train.concat 3, %3, %1 : tensor<1x1x2x2xf32>, tensor<1x1x2x2xf32> -> tensor<1x1x2x4xf32>
  %5 = train.mul %4, %s : tensor<1x1x2x4xf32>, tensor<2x4xf32> -> tensor<1x1x2x4xf32>
  %6 = train.add %0, %5 : tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32> -> tensor<1x1x2x4xf32>
  return %6 : tensor<1x1x2x4xf32>
}

// The halves are turned one by one; the table has the half already.
// CHECK-LABEL: func.func @halves
// CHECK-SAME: (%[[X:.*]]: tensor<1x3x2x4xf32>, %[[C:.*]]: tensor<2x2xf32>, %[[S:.*]]: tensor<2x2xf32>)
// CHECK-NEXT: %[[Y:.*]] = train.rotary %[[X]], %[[C]], %[[S]]
// CHECK-NEXT: return %[[Y]]
func.func @halves(%x: tensor<1x3x2x4xf32>, %c: tensor<2x2xf32>, %s: tensor<2x2xf32>) -> tensor<1x3x2x4xf32> {
  %x1 = train.slice %x [0, 0, 0, 0] [1, 1, 1, 1] : tensor<1x3x2x4xf32> -> tensor<1x3x2x2xf32>
  %x2 = train.slice %x [0, 0, 0, 2] [1, 1, 1, 1] : tensor<1x3x2x4xf32> -> tensor<1x3x2x2xf32>
  %0 = train.mul %x1, %c : tensor<1x3x2x2xf32>, tensor<2x2xf32> -> tensor<1x3x2x2xf32>
  %1 = train.mul %s, %x2 : tensor<2x2xf32>, tensor<1x3x2x2xf32> -> tensor<1x3x2x2xf32>
  %2 = train.sub %0, %1 : tensor<1x3x2x2xf32>, tensor<1x3x2x2xf32> -> tensor<1x3x2x2xf32>
  %3 = train.mul %x2, %c : tensor<1x3x2x2xf32>, tensor<2x2xf32> -> tensor<1x3x2x2xf32>
  %4 = train.mul %x1, %s : tensor<1x3x2x2xf32>, tensor<2x2xf32> -> tensor<1x3x2x2xf32>
  %5 = train.add %4, %3 : tensor<1x3x2x2xf32>, tensor<1x3x2x2xf32> -> tensor<1x3x2x2xf32>
  %6 = train.concat 3, %2, %5 : tensor<1x3x2x2xf32>, tensor<1x3x2x2xf32> -> tensor<1x3x2x4xf32>
  return %6 : tensor<1x3x2x4xf32>
}

// Frequencies that are trained get a gradient, which train.rotary does not give.
// CHECK-LABEL: func.func @no_rotary_of_trained_angles
// CHECK-NOT: train.rotary
// CHECK: return
train.state @frequencies : tensor<2xf32> {role = #train.role<parameter>, trained, init = 1.0 : f32}
func.func @no_rotary_of_trained_angles(%x: tensor<1x1x2x4xf32>) -> tensor<1x1x2x4xf32> {
  %f = train.read_state @frequencies : tensor<2xf32>
  %a = train.concat 0, %f, %f : tensor<2xf32>, tensor<2xf32> -> tensor<4xf32>
  %c = train.cos %a : tensor<4xf32>
  %s = train.sin %a : tensor<4xf32>
  %0 = train.mul %x, %c : tensor<1x1x2x4xf32>, tensor<4xf32> -> tensor<1x1x2x4xf32>
  %1 = train.slice %x [0, 0, 0, 0] [1, 1, 1, 1] : tensor<1x1x2x4xf32> -> tensor<1x1x2x2xf32>
  %2 = train.slice %x [0, 0, 0, 2] [1, 1, 1, 1] : tensor<1x1x2x4xf32> -> tensor<1x1x2x2xf32>
  %3 = train.neg %2 : tensor<1x1x2x2xf32>
  %4 = train.concat 3, %3, %1 : tensor<1x1x2x2xf32>, tensor<1x1x2x2xf32> -> tensor<1x1x2x4xf32>
  %5 = train.mul %4, %s : tensor<1x1x2x4xf32>, tensor<4xf32> -> tensor<1x1x2x4xf32>
  %6 = train.add %0, %5 : tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32> -> tensor<1x1x2x4xf32>
  return %6 : tensor<1x1x2x4xf32>
}

// transformers' GPT-J: neighbours are pairs, angles of a table are repeated, heads are behind positions. What it rotates is a part of the head.
// CHECK-LABEL: func.func @gptj
// CHECK-SAME: (%[[X:.*]]: tensor<2x8x4x16xf32>, %[[T:.*]]: tensor<1x8x8xf32>)
// CHECK-DAG: %[[S0:.*]] = train.slice %[[T]] [0, 0, 0] [1, 1, 1]
// CHECK-DAG: %[[C0:.*]] = train.slice %[[T]] [0, 0, 4] [1, 1, 1]
// CHECK-DAG: %[[P:.*]] = train.slice %[[X]] [0, 0, 0, 0] [1, 1, 1, 1] : tensor<2x8x4x16xf32> -> tensor<2x8x4x8xf32>
// CHECK-DAG: %[[S1:.*]] = train.reshape %[[S0]] : tensor<1x8x4xf32> -> tensor<1x8x1x4x1xf32>
// CHECK-DAG: %[[S2:.*]] = train.reshape %[[S1]] : tensor<1x8x1x4x1xf32> -> tensor<1x8x1x4xf32>
// CHECK-DAG: %[[C1:.*]] = train.reshape %[[C0]] : tensor<1x8x4xf32> -> tensor<1x8x1x4x1xf32>
// CHECK-DAG: %[[C2:.*]] = train.reshape %[[C1]] : tensor<1x8x1x4x1xf32> -> tensor<1x8x1x4xf32>
// CHECK-DAG: %[[R:.*]] = train.reshape %[[P]] : tensor<2x8x4x8xf32> -> tensor<16x4x1x8xf32>
// CHECK-DAG: %[[S3:.*]] = train.broadcast %[[S2]] : tensor<1x8x1x4xf32> -> tensor<2x8x1x4xf32>
// CHECK-DAG: %[[S4:.*]] = train.reshape %[[S3]] : tensor<2x8x1x4xf32> -> tensor<16x1x1x4xf32>
// CHECK-DAG: %[[C3:.*]] = train.broadcast %[[C2]] : tensor<1x8x1x4xf32> -> tensor<2x8x1x4xf32>
// CHECK-DAG: %[[C4:.*]] = train.reshape %[[C3]] : tensor<2x8x1x4xf32> -> tensor<16x1x1x4xf32>
// CHECK: %[[Y:.*]] = train.rotary %[[R]], %[[C4]], %[[S4]] {interleaved} : tensor<16x4x1x8xf32>, tensor<16x1x1x4xf32>
// CHECK-NEXT: %[[Z:.*]] = train.reshape %[[Y]] : tensor<16x4x1x8xf32> -> tensor<2x8x4x8xf32>
// CHECK-NEXT: return %[[Z]]
func.func @gptj(%x: tensor<2x8x4x16xf32>, %table: tensor<1x8x8xf32>) -> tensor<2x8x4x8xf32> {
  %sin = train.slice %table [0, 0, 0] [1, 1, 1] : tensor<1x8x8xf32> -> tensor<1x8x4xf32>
  %cos = train.slice %table [0, 0, 4] [1, 1, 1] : tensor<1x8x8xf32> -> tensor<1x8x4xf32>
  %s0 = train.reshape %sin : tensor<1x8x4xf32> -> tensor<1x8x1x4x1xf32>
  %s1 = train.broadcast %s0 : tensor<1x8x1x4x1xf32> -> tensor<1x8x1x4x2xf32>
  %s = train.reshape %s1 : tensor<1x8x1x4x2xf32> -> tensor<1x8x1x8xf32>
  %c0 = train.reshape %cos : tensor<1x8x4xf32> -> tensor<1x8x1x4x1xf32>
  %c1 = train.broadcast %c0 : tensor<1x8x1x4x1xf32> -> tensor<1x8x1x4x2xf32>
  %c = train.reshape %c1 : tensor<1x8x1x4x2xf32> -> tensor<1x8x1x8xf32>
  %part = train.slice %x [0, 0, 0, 0] [1, 1, 1, 1] : tensor<2x8x4x16xf32> -> tensor<2x8x4x8xf32>
  %straight = train.mul %part, %c : tensor<2x8x4x8xf32>, tensor<1x8x1x8xf32> -> tensor<2x8x4x8xf32>
  %even = train.slice %part [0, 0, 0, 0] [1, 1, 1, 2] : tensor<2x8x4x8xf32> -> tensor<2x8x4x4xf32>
  %odd = train.slice %part [0, 0, 0, 1] [1, 1, 1, 2] : tensor<2x8x4x8xf32> -> tensor<2x8x4x4xf32>
  %minus = train.neg %odd : tensor<2x8x4x4xf32>
  %t0 = train.reshape %minus : tensor<2x8x4x4xf32> -> tensor<2x8x4x4x1xf32>
  %t1 = train.reshape %even : tensor<2x8x4x4xf32> -> tensor<2x8x4x4x1xf32>
  %t2 = train.concat 4, %t0, %t1 : tensor<2x8x4x4x1xf32>, tensor<2x8x4x4x1xf32> -> tensor<2x8x4x4x2xf32>
  %t = train.reshape %t2 : tensor<2x8x4x4x2xf32> -> tensor<2x8x4x8xf32>
  %turned = train.mul %t, %s : tensor<2x8x4x8xf32>, tensor<1x8x1x8xf32> -> tensor<2x8x4x8xf32>
  %y = train.add %straight, %turned : tensor<2x8x4x8xf32>, tensor<2x8x4x8xf32> -> tensor<2x8x4x8xf32>
  return %y : tensor<2x8x4x8xf32>
}

// Folded tables of neighbours; heads before positions.
// CHECK-LABEL: func.func @neighbours_of_literals
// CHECK-SAME: (%[[X:.*]]: tensor<1x3x2x4xf32>)
// CHECK-DAG: %[[C:.*]] = train.constant dense<{{\[\[}}1.000000e+00, 2.000000e+00], [3.000000e+00, 4.000000e+00]]>
// CHECK-DAG: %[[S:.*]] = train.constant dense<5.000000e-01> : tensor<2x2xf32> : tensor<2x2xf32>
// CHECK: %[[Y:.*]] = train.rotary %[[X]], %[[C]], %[[S]] {interleaved}
// CHECK-NEXT: return %[[Y]]
func.func @neighbours_of_literals(%x: tensor<1x3x2x4xf32>) -> tensor<1x3x2x4xf32> {
  %c = train.constant dense<[[1.0, 1.0, 2.0, 2.0], [3.0, 3.0, 4.0, 4.0]]> : tensor<2x4xf32> : tensor<2x4xf32>
  %s = train.constant dense<0.5> : tensor<2x4xf32> : tensor<2x4xf32>
  %straight = train.mul %x, %c : tensor<1x3x2x4xf32>, tensor<2x4xf32> -> tensor<1x3x2x4xf32>
  %even = train.slice %x [0, 0, 0, 0] [1, 1, 1, 2] : tensor<1x3x2x4xf32> -> tensor<1x3x2x2xf32>
  %odd = train.slice %x [0, 0, 0, 1] [1, 1, 1, 2] : tensor<1x3x2x4xf32> -> tensor<1x3x2x2xf32>
  %minus = train.neg %odd : tensor<1x3x2x2xf32>
  %t0 = train.reshape %minus : tensor<1x3x2x2xf32> -> tensor<1x3x2x2x1xf32>
  %t1 = train.reshape %even : tensor<1x3x2x2xf32> -> tensor<1x3x2x2x1xf32>
  %t2 = train.concat 4, %t0, %t1 : tensor<1x3x2x2x1xf32>, tensor<1x3x2x2x1xf32> -> tensor<1x3x2x2x2xf32>
  %t = train.reshape %t2 : tensor<1x3x2x2x2xf32> -> tensor<1x3x2x4xf32>
  %turned = train.mul %s, %t : tensor<2x4xf32>, tensor<1x3x2x4xf32> -> tensor<1x3x2x4xf32>
  %y = train.add %turned, %straight : tensor<1x3x2x4xf32>, tensor<1x3x2x4xf32> -> tensor<1x3x2x4xf32>
  return %y : tensor<1x3x2x4xf32>
}

// Neighbours are turned by the table of halves: the angles of a pair differ.
// CHECK-LABEL: func.func @no_rotary_of_mixed_pairs
// CHECK-NOT: train.rotary
// CHECK: return
func.func @no_rotary_of_mixed_pairs(%x: tensor<1x3x2x4xf32>) -> tensor<1x3x2x4xf32> {
  %c = train.constant dense<[[1.0, 2.0, 1.0, 2.0], [3.0, 4.0, 3.0, 4.0]]> : tensor<2x4xf32> : tensor<2x4xf32>
  %s = train.constant dense<0.5> : tensor<2x4xf32> : tensor<2x4xf32>
  %straight = train.mul %x, %c : tensor<1x3x2x4xf32>, tensor<2x4xf32> -> tensor<1x3x2x4xf32>
  %even = train.slice %x [0, 0, 0, 0] [1, 1, 1, 2] : tensor<1x3x2x4xf32> -> tensor<1x3x2x2xf32>
  %odd = train.slice %x [0, 0, 0, 1] [1, 1, 1, 2] : tensor<1x3x2x4xf32> -> tensor<1x3x2x2xf32>
  %minus = train.neg %odd : tensor<1x3x2x2xf32>
  %t0 = train.reshape %minus : tensor<1x3x2x2xf32> -> tensor<1x3x2x2x1xf32>
  %t1 = train.reshape %even : tensor<1x3x2x2xf32> -> tensor<1x3x2x2x1xf32>
  %t2 = train.concat 4, %t0, %t1 : tensor<1x3x2x2x1xf32>, tensor<1x3x2x2x1xf32> -> tensor<1x3x2x2x2xf32>
  %t = train.reshape %t2 : tensor<1x3x2x2x2xf32> -> tensor<1x3x2x4xf32>
  %turned = train.mul %t, %s : tensor<1x3x2x4xf32>, tensor<2x4xf32> -> tensor<1x3x2x4xf32>
  %y = train.add %straight, %turned : tensor<1x3x2x4xf32>, tensor<1x3x2x4xf32> -> tensor<1x3x2x4xf32>
  return %y : tensor<1x3x2x4xf32>
}
