# Helpers that keep each folder's CMakeLists.txt to a list of files and what they link.

# msb_add_subdirectories(dir...) adds the folders in order; tests, fuzz targets and benchmarks only when asked for.
function(msb_add_subdirectories)
  foreach(dir IN LISTS ARGN)
    if(dir MATCHES "^tests/(unit|integration|e2e)$" AND NOT MSB_BUILD_TESTS)
      continue()
    endif()
    if(dir STREQUAL "tests/fuzz" AND NOT MSB_FUZZ)
      continue()
    endif()
    if(EXISTS ${CMAKE_SOURCE_DIR}/${dir}/CMakeLists.txt)
      add_subdirectory(${dir})
    endif()
  endforeach()
endfunction()

# msb_library(name SOURCES ... LINK ...) is a static library whose headers are included as "folder/file.h".
function(msb_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)
  target_link_libraries(${name} PUBLIC ${ARG_LINK})
endfunction()

# msb_unit_test(name SOURCES ... LINK ...) is one GoogleTest binary, one ctest entry, label "unit".
function(msb_unit_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK;LABELS" ${ARGN})
  find_package(GTest REQUIRED)
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gmock GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name})
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 300)
endfunction()

# msb_fuzz_target(name SOURCES ... LINK ...) is one libFuzzer binary in bin/; scripts/fuzz.sh finds it by its fuzz_ name.
function(msb_fuzz_target name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
endfunction()

# msb_benchmark(name SOURCES ... LINK ...) is one Google Benchmark binary in bin/.
function(msb_benchmark name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  find_package(benchmark REQUIRED)
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} benchmark::benchmark_main)
endfunction()
