# Thin helpers around Debian's MLIR CMake modules.
#
# Everything links the shared libMLIR and libLLVM; MLIR's exported component targets are static archives and must never be mixed in.

# One interface target carries MLIR, and one precompiled header serves every compiler library.
add_library(zopt_mlir INTERFACE)
target_link_libraries(zopt_mlir INTERFACE MLIR LLVM)

add_library(zopt_pch STATIC ${CMAKE_SOURCE_DIR}/cmake/Precompiled.cpp)
target_precompile_headers(zopt_pch PRIVATE
  <mlir/IR/Builders.h> <mlir/IR/BuiltinTypes.h> <mlir/IR/BuiltinAttributes.h> <mlir/IR/BuiltinOps.h>
  <mlir/IR/PatternMatch.h> <mlir/IR/OpImplementation.h> <mlir/IR/Matchers.h> <mlir/IR/SymbolTable.h>
  <mlir/Pass/Pass.h> <mlir/Pass/PassManager.h> <mlir/Dialect/Func/IR/FuncOps.h>
  <mlir/Interfaces/SideEffectInterfaces.h> <mlir/Interfaces/InferTypeOpInterface.h>
  <mlir/Transforms/GreedyPatternRewriteDriver.h>
  <llvm/ADT/TypeSwitch.h> <llvm/ADT/StringSet.h> <llvm/ADT/MapVector.h> <llvm/Support/FormatVariadic.h>)
target_link_libraries(zopt_pch PRIVATE zopt_mlir)

# add_zopt_library(Name source... [DEPENDS target...] [LINK_LIBS library...]): a compiler library (MLIR allowed).
# Every such library registers itself in ZOPT_COMPILER_LIBRARIES, which the tools link.
function(add_zopt_library name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;LINK_LIBS" ${ARGN})
  add_library(${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  target_precompile_headers(${name} REUSE_FROM zopt_pch)
  target_link_libraries(${name} PUBLIC ${ARG_LINK_LIBS} zopt_mlir)
  add_dependencies(${name} zopt-tablegen ${ARG_DEPENDS})
  set_property(GLOBAL APPEND PROPERTY ZOPT_COMPILER_LIBRARIES ${name})
endfunction()

# add_zopt_dialect(Train train): what mlir-tblgen makes from <Name>Ops.td, <Name>Attributes.td and <Name>Interfaces.td in this folder.
function(add_zopt_dialect name namespace)
  set(LLVM_TARGET_DEFINITIONS ${name}Ops.td)
  mlir_tablegen(${name}Ops.h.inc -gen-op-decls)
  mlir_tablegen(${name}Ops.cpp.inc -gen-op-defs)
  mlir_tablegen(${name}Dialect.h.inc -gen-dialect-decls -dialect=${namespace})
  mlir_tablegen(${name}Dialect.cpp.inc -gen-dialect-defs -dialect=${namespace})
  mlir_tablegen(${name}Enums.h.inc -gen-enum-decls)
  mlir_tablegen(${name}Enums.cpp.inc -gen-enum-defs)
  mlir_tablegen(${name}Attributes.h.inc -gen-attrdef-decls -attrdefs-dialect=${namespace})
  mlir_tablegen(${name}Attributes.cpp.inc -gen-attrdef-defs -attrdefs-dialect=${namespace})
  mlir_tablegen(${name}Types.h.inc -gen-typedef-decls -typedefs-dialect=${namespace})
  mlir_tablegen(${name}Types.cpp.inc -gen-typedef-defs -typedefs-dialect=${namespace})
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${name}Interfaces.td)
    set(LLVM_TARGET_DEFINITIONS ${name}Interfaces.td)
    mlir_tablegen(${name}Interfaces.h.inc -gen-op-interface-decls)
    mlir_tablegen(${name}Interfaces.cpp.inc -gen-op-interface-defs)
  endif()
  add_public_tablegen_target(Zopt${name}TableGen)
  add_dependencies(zopt-tablegen Zopt${name}TableGen)
endfunction()

# add_zopt_passes(Transforms): Passes.h.inc with registerTransformsPasses() from this folder's Passes.td.
function(add_zopt_passes name)
  set(LLVM_TARGET_DEFINITIONS Passes.td)
  mlir_tablegen(Passes.h.inc -gen-pass-decls -name ${name})
  add_public_tablegen_target(Zopt${name}PassesTableGen)
  add_dependencies(zopt-tablegen Zopt${name}PassesTableGen)
endfunction()

add_custom_target(zopt-tablegen)
add_dependencies(zopt_pch zopt-tablegen)
