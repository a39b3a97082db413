// A library needs a source: the precompiled headers of the tests belong to one (CMakeLists.txt).
