// A place in a text file, as error messages name it.
#ifndef ICEPIE_SLICES_DEFINITION_FILE_PLACE_H_
#define ICEPIE_SLICES_DEFINITION_FILE_PLACE_H_

namespace icepie::slices {

// 1-based place in the file; 0 when unknown.
struct FilePlace {
  int line = 0;
  int column = 0;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_DEFINITION_FILE_PLACE_H_
