"""Encodes DICOM files: a line of input names source, target and transfer syntax, by tabs; the answer is done."""

import sys

import gdcm


def serve():
    """Encode until the input ends."""
    gdcm.Trace.WarningOff()
    for line in sys.stdin:
        source, target, syntax = line.rstrip('\n').split('\t')
        reader = gdcm.ImageReader()
        reader.SetFileName(source)
        assert reader.Read(), source
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
        change.SetInput(reader.GetImage())
        assert change.Change(), syntax
        writer = gdcm.ImageWriter()
        writer.SetFileName(target)
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write(), target
        print('done', flush=True)


if __name__ == '__main__':
    serve()
