# cmake -DTEXT=FILE -DOUTPUT=FILE -P EmbedText.cmake: writes a text as a C++ raw string literal, to be included where a string is wanted.
file(READ "${TEXT}" content)
file(WRITE "${OUTPUT}" "R\"text(${content})text\"")
