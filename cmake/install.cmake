# `cmake --install`: the program, what it boots, and the SDK (shared library, headers, CMake package, pkg-config file).
# (bin/msb itself is installed by src/cli.)
include(CMakePackageConfigHelpers)

# msb looks for its parts beside itself: <prefix>/bin/../lib/microsandbox, whatever the distribution's libdir is.
foreach(part lib/microsandbox/vmlinux lib/microsandbox/initramfs.cpio share/microsandbox/busybox.raw
        share/microsandbox/busybox.tar)
  get_filename_component(directory ${part} DIRECTORY)
  # The kernel and the demo root are made by scripts/build.sh and may be missing in a C++-only build.
  install(FILES ${CMAKE_BINARY_DIR}/${part} DESTINATION ${directory} OPTIONAL)
endforeach()

if(TARGET msb)
  # The program writes its own completion scripts.
  foreach(shell bash zsh fish)
    set(bash share/bash-completion/completions/msb)
    set(zsh share/zsh/site-functions/_msb)
    set(fish share/fish/vendor_completions.d/msb.fish)
    set(script ${CMAKE_BINARY_DIR}/completion/${shell})
    install(CODE "
      file(MAKE_DIRECTORY \"${CMAKE_BINARY_DIR}/completion\")
      execute_process(COMMAND \"$<TARGET_FILE:msb>\" completion ${shell}
                      OUTPUT_FILE \"${script}\" RESULT_VARIABLE status)
      if(NOT status EQUAL 0)
        message(FATAL_ERROR \"msb completion ${shell} failed: \${status}\")
      endif()")
    get_filename_component(directory ${${shell}} DIRECTORY)
    get_filename_component(file ${${shell}} NAME)
    install(FILES ${script} DESTINATION ${directory} RENAME ${file})
  endforeach()
endif()

if(TARGET microsandbox)
  install(TARGETS microsandbox EXPORT microsandboxTargets
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/microsandbox DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
    FILES_MATCHING PATTERN "*.h")

  set(package ${CMAKE_INSTALL_LIBDIR}/cmake/microsandbox)
  install(EXPORT microsandboxTargets NAMESPACE microsandbox:: DESTINATION ${package})
  file(WRITE ${CMAKE_BINARY_DIR}/microsandboxConfig.cmake
    "include(\${CMAKE_CURRENT_LIST_DIR}/microsandboxTargets.cmake)\n")
  write_basic_package_version_file(${CMAKE_BINARY_DIR}/microsandboxConfigVersion.cmake
    VERSION ${PROJECT_VERSION} COMPATIBILITY SameMinorVersion)
  install(FILES ${CMAKE_BINARY_DIR}/microsandboxConfig.cmake ${CMAKE_BINARY_DIR}/microsandboxConfigVersion.cmake
    DESTINATION ${package})

  # The prefix is the one of the installation, not of the configuration: pkg-config finds it from the file's own place.
  file(RELATIVE_PATH MSB_PC_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
  configure_file(${CMAKE_SOURCE_DIR}/cmake/microsandbox.pc.in ${CMAKE_BINARY_DIR}/microsandbox.pc @ONLY)
  install(FILES ${CMAKE_BINARY_DIR}/microsandbox.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endif()
