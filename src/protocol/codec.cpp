#include "protocol/codec.h"
