// What the shared library exports. Everything else in libmicrosandbox.so is hidden.
#pragma once

#define MICROSANDBOX_API __attribute__((visibility("default")))
