package mmotest

func (e *Edge) readDatagrams() {}
